"""PaLI in transformers. Once this is imported, these Auto classes load and save PaLI folders:

AutoConfig, AutoProcessor, AutoTokenizer, AutoImageProcessor, AutoModelForImageTextToText, AutoModel; offline, and
without remote code. Needs the extra ``openpali[transformers]``.
"""

from __future__ import annotations

from openpali.messages import cannot_import

try:
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
    )
except (ImportError, RuntimeError) as error:
    raise ImportError(
        cannot_import("PaLI in transformers needs transformers", "openpali[transformers]", error)
    ) from error

from openpali.interop.transformers.configuration import PaliConfig
from openpali.interop.transformers.modeling import PaliForConditionalGeneration
from openpali.interop.transformers.processing import PaliImageProcessor, PaliProcessor, PaliTokenizer

__all__ = ["PaliConfig", "PaliForConditionalGeneration", "PaliImageProcessor", "PaliProcessor", "PaliTokenizer"]

AutoConfig.register(PaliConfig.model_type, PaliConfig, exist_ok=True)
AutoImageProcessor.register(PaliConfig, image_processor_classes={"pil": PaliImageProcessor}, exist_ok=True)
AutoTokenizer.register(PaliConfig, PaliTokenizer, exist_ok=True)
AutoProcessor.register(PaliConfig, PaliProcessor, exist_ok=True)
for auto in (AutoModelForImageTextToText, AutoModel):
    auto.register(PaliConfig, PaliForConditionalGeneration, exist_ok=True)
