"""Hold our class to transformers' own model and generation tests.

    python tests/interop/run_transformers_suite.py CHECKOUT [pytest options]

CHECKOUT is a source distribution of transformers at the installed version, as `make oracles` downloads it, or a
checkout of its repository. Its tests are not part of the package, nor of this repository; they hold transformers'
own models, too. They need ``pip install parameterized``. The source distribution lacks folders of tests, those of
generation and of exporters: they are left out, and named.

What cannot apply to PaLI is listed in :data:`CANNOT_APPLY`, each with its reason; all else must be green.
"""

from __future__ import annotations

import os
import sys
import unittest
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

CHECKOUT = "OPENPALI_TRANSFORMERS_CHECKOUT"

CANNOT_APPLY = {
    "test_model_base_model_prefix": "there is one class, and no base model beside it",
}

LACKING = {  # what the source distribution imports and lacks -> what stands in for it
    "tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "tests.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "tests.utils.test_configuration_utils": {"config_common_kwargs": {}},
}


def stand_in(name: str, content: dict[str, Any]) -> None:
    """Make an empty module, unless its folder is there."""
    package = name.rpartition(".")[0]
    if find_spec(package) is None:
        for missing in (package, name):
            sys.modules[missing] = ModuleType(missing)
        vars(sys.modules[name]).update(content)


if __name__ != "__main__":
    sys.path.insert(0, os.environ[CHECKOUT])
    Path(os.environ[CHECKOUT], "tests", "__init__.py").touch()  # the source distribution lacks it, too
    for name, content in LACKING.items():
        stand_in(name, content)

    import torch
    from tests.generation.test_utils import GenerationTesterMixin
    from tests.test_configuration_common import ConfigTester
    from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from openpali.architectures import pali as core
    from openpali.interop.transformers import PaliConfig, PaliForConditionalGeneration
    from openpali.model.t5 import T5Config
    from openpali.model.vit import ViTConfig

    # by name, as the tests look up what a class should be able to do
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[PaliConfig.model_type] = PaliForConditionalGeneration.__name__

    class PaliModelTester:
        """Shapes and inputs, in the words that transformers' tests use."""

        batch_size = 3
        prompt_length = 7
        visual_length = 4
        encoder_seq_length = key_length = visual_length + prompt_length
        seq_length = decoder_seq_length = decoder_key_length = prompt_length
        vocab_size = 99
        hidden_size = 32
        num_hidden_layers = 2
        num_attention_heads = 4
        is_training = True

        def __init__(self, parent: unittest.TestCase) -> None:
            self.parent = parent

        def get_config(self) -> PaliConfig:
            vision = ViTConfig(patch_size=4, grid=(2, 2), width=32, depth=2, mlp_dim=36, heads=2)
            text = T5Config(
                vocab_size=self.vocab_size,
                d_model=self.hidden_size,
                d_head=8,
                heads=self.num_attention_heads,
                d_ff=37,
                encoder_layers=self.num_hidden_layers,
                decoder_layers=self.num_hidden_layers,
                buckets=8,
                dropout=0.1,
            )
            return PaliConfig.from_core(core.PaliModelConfig(vision, text))

        def prepare_config_and_inputs_for_common(self) -> tuple[PaliConfig, dict[str, Any]]:
            prompts = [self.batch_size, self.prompt_length]
            targets = ids_tensor([self.batch_size, self.decoder_seq_length], self.vocab_size).clamp(2)
            return self.get_config(), {
                "input_ids": ids_tensor(prompts, self.vocab_size).clamp(2),
                "attention_mask": ids_tensor(prompts, vocab_size=2),
                "pixel_values": floats_tensor([self.batch_size, 3, 8, 8]),
                "decoder_input_ids": targets,
                "decoder_attention_mask": torch.ones_like(targets),
            }

    class PaliModelTest(ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
        all_model_classes = (PaliForConditionalGeneration,)
        is_encoder_decoder = True
        test_can_init_all_missing_weights_before_2023 = True  # a waiver for old models, which we do not take

        def setUp(self) -> None:
            reason = CANNOT_APPLY.get(self._testMethodName.removesuffix("_with_retry"))
            if reason is not None:
                self.skipTest(reason)
            self.model_tester = PaliModelTester(self)
            self.config_tester = ConfigTester(self, config_class=PaliConfig, has_text_modality=True)

        def test_config(self) -> None:
            self.config_tester.run_common_tests()


if __name__ == "__main__":
    import pytest

    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in LACKING:
        if not Path(sys.argv[1], *name.split(".")[:-1]).is_dir():
            print(f"left out: {name}, which {sys.argv[1]} lacks", flush=True)
    os.environ[CHECKOUT] = os.path.abspath(sys.argv[1])  # noqa: PTH100 (before anything is imported)
    sys.exit(
        pytest.main(
            [
                __file__,
                "-c",
                os.devnull,
                "--noconftest",
                "-p",
                "no:cacheprovider",
                "--disable-warnings",
                "-q",
                "-rs",  # what is left out, and why
                *sys.argv[2:],
            ]
        )
    )
