"""How Qwen's language models are told what a user says; several families take their text so."""

from __future__ import annotations

USER = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
FILES = (("tokenizer", "AutoTokenizer"), ("text_encoder", "AutoModel"))  # as of `DiffusersFiles`
