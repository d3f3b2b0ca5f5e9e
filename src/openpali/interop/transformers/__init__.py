"""PaLI in transformers: after ``import openpali.interop.transformers`` the Auto classes load and save PaLI folders.

AutoConfig, AutoProcessor, AutoTokenizer, AutoImageProcessor, AutoModelForImageTextToText; offline, and without
remote code. Needs the extra ``openpali[transformers]``.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForImageTextToText

from openpali.bundle import MODEL_TYPE
from openpali.interop.transformers.configuration import PaliConfig
from openpali.interop.transformers.modeling import PaliForConditionalGeneration

__all__ = ["PaliConfig", "PaliForConditionalGeneration"]

AutoConfig.register(MODEL_TYPE, PaliConfig, exist_ok=True)
AutoModelForImageTextToText.register(PaliConfig, PaliForConditionalGeneration, exist_ok=True)
