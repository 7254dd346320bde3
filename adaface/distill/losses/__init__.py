"""The losses of distillation, each a function of tensors; what they count for is in `adaface.distill.weights`."""
