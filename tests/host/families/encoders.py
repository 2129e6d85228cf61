"""The host's own text encoders with tiny random weights behind the real tokenizers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import comfy.sd
import torch
from comfy.text_encoders import aura_t5, flux, lumina2, pixart_t5, qwen_image, z_image

DEV, KLEIN_9B = "FLUX.2 [dev]", "FLUX.2 [klein 9B]"  # whose text encoders are not [klein]'s
T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2}
LANGUAGE_MODEL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
}


def random_clip(encoder: Any, tokens: Any, sizes: dict[str, Any]) -> Any:
    """ComfyUI's CLIP object, as a loader node makes it."""

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip, tokenizer = encoder, tokens

    made = comfy.sd.CLIP(Target, model_options={**sizes, "dtype": torch.float32})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in made.cond_stage_model.parameters():
            each.normal_(std=0.1, generator=generator)
            each.add_(each.ndim == 1)
    return made


def with_data(tokenizer: Any, **data: Any) -> Callable[..., Any]:
    """A host's tokenizer with data that a file of weights brings along otherwise."""
    return lambda embedding_directory, tokenizer_data: tokenizer(embedding_directory, data)


def chroma() -> Any:
    sizes = {"t5xxl_model_config": T5}
    return random_clip(
        pixart_t5.pixart_te(dtype_t5=torch.float32), pixart_t5.PixArtTokenizer, sizes
    )


def auraflow() -> Any:
    sizes = {"pile_t5xl_model_config": T5}
    return random_clip(aura_t5.AuraT5Model, aura_t5.AuraT5Tokenizer, sizes)


def qwen() -> Any:
    sizes = {"qwen25_7b_model_config": LANGUAGE_MODEL}
    encoder = qwen_image.te(dtype_llama=torch.float32)
    return random_clip(encoder, qwen_image.QwenImageTokenizer, sizes)


def z_image_clip() -> Any:
    sizes = {"qwen3_4b_model_config": LANGUAGE_MODEL}
    return random_clip(z_image.te(dtype_llama=torch.float32), z_image.ZImageTokenizer, sizes)


def lumina_2() -> Any:
    """The published tokenizer comes with weights: another one of its kind stands for it."""
    package = Path(lumina2.__file__).parent
    pieces = (package / "t5_pile_tokenizer" / "tokenizer.model").read_bytes()
    tokenizer = with_data(lumina2.LuminaTokenizer, spiece_model=pieces)
    sizes = {"gemma2_2b_model_config": LANGUAGE_MODEL}
    return random_clip(lumina2.te(dtype_llama=torch.float32), tokenizer, sizes)


def klein(qwen: str = "qwen3_4b", tokenizer: str = "KleinTokenizer") -> Any:
    sizes = {f"{qwen}_model_config": {**LANGUAGE_MODEL, "num_hidden_layers": 30}}
    te = flux.klein_te  # pyright: ignore[reportAttributeAccessIssue]
    encoder = te(dtype_llama=torch.float32, model_type=qwen)
    return random_clip(encoder, getattr(flux, tokenizer), sizes)


def klein_9b() -> Any:
    return klein("qwen3_8b", "KleinTokenizer8B")


MARKS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
MARKS = (*MARKS, *(f"<SPECIAL_{number}>" for number in range(len(MARKS), 11)), "<pad>")


WORDS = (
    "You are an AI that reasons about image descriptions give structured responses focusing on "
    "object relationships attribution and actions without speculation a red star above striped "
    "circle heart"
)


def tekken() -> bytes:
    """A tokenizer of Mistral's kind with a few words: the published one comes with weights."""
    spelled = [space + word for word in WORDS.split() for space in ("", " ")]
    parts = {word[:end] for word in spelled for end in range(2, len(word) + 1)}
    tokens = [bytes([byte]) for byte in range(256)] + [
        part.encode() for part in sorted(parts, key=lambda part: (len(part), part))
    ]
    config = {
        "pattern": r" ?\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+",
        "default_vocab_size": len(MARKS) + len(tokens),
        "default_num_special_tokens": len(MARKS),
    }
    words = [base64.b64encode(token).decode() for token in tokens]
    return json.dumps(
        {
            "config": config,
            "vocab": [{"rank": rank, "token_bytes": word} for rank, word in enumerate(words)],
            "special_tokens": [
                {"rank": rank, "token_str": each} for rank, each in enumerate(MARKS)
            ],
        }
    ).encode()


def flux2_dev() -> Any:
    tokenizer = with_data(flux.Flux2Tokenizer, tekken_model=tekken())
    sizes = {"mistral3_24b_model_config": {**LANGUAGE_MODEL, "num_hidden_layers": 31}}
    return random_clip(flux.flux2_te(dtype_llama=torch.float32), tokenizer, sizes)


def family_of(name: str) -> str:
    """Whose text encoders these are, by their name here."""
    return name.partition(" [")[0]


# By family's name; hosts have them one after another.
CLIPS: dict[str, Callable[[], Any]] = {
    "Chroma": chroma,
    "AuraFlow": auraflow,
    "Qwen-Image": qwen,
    "Z-Image": z_image_clip,
    "Lumina 2": lumina_2,
    **({"FLUX.2": klein, KLEIN_9B: klein_9b, DEV: flux2_dev} if hasattr(flux, "klein_te") else {}),
}
# Of their features.
WIDTHS = {
    "Chroma": T5["d_model"],
    "AuraFlow": T5["d_model"],
    "Qwen-Image": LANGUAGE_MODEL["hidden_size"],
    "Z-Image": LANGUAGE_MODEL["hidden_size"],
    "Lumina 2": LANGUAGE_MODEL["hidden_size"],
    "FLUX.2": 3 * LANGUAGE_MODEL["hidden_size"],
    KLEIN_9B: 3 * LANGUAGE_MODEL["hidden_size"],
    DEV: 3 * LANGUAGE_MODEL["hidden_size"],
}
