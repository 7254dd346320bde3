"""What steps of a distillation cost: `python -m adaface.distill.benchmarks`, and a dry run at full size."""
