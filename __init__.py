"""ComfyUI-EraseAnything: erase a concept from a Flux model by training a small LoRA."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201  (its type belongs to the host)
    """What ComfyUI calls to get the nodes; until then nothing of the host is imported."""
    from .nodes import EraseAnythingExtension

    return EraseAnythingExtension()
