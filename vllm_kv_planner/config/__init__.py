"""Where is the model's config, and is it the real one? Path, Hugging Face cache, Hub, presets."""
