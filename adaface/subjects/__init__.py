"""People in diffusers pipelines: photos, prompts, pictures."""
