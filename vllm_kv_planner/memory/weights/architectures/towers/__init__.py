"""Encoders of images, video and audio, and what joins them to the language model.

One file a family; each function lists the modules beside the language model, none of them where
``--limit-mm-per-prompt`` or ``--language-model-only`` leaves the tower out.
"""
