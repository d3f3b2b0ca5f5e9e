"""README's table of what one can start from: behind each cell stands a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAIN = "interop/test_chain.py::test_from_the_hub_to_the_server"
COMMANDS = "interop/test_t5gemma2.py::test_commands_take_it"
FILES = "interop/test_paligemma.py::test_files_are_checked_asked_and_scored"
HALVES = "interop/test_weights_doc.py::test_from_two_folders_to_a_pali_that_trains_and_answers"
INT8 = "weights/test_quantize.py::test_int8_models_are_close_to_the_original"
SERVED = "serve/test_serving_doc.py::test_commands_run"
LORA = "train/test_lora.py::test_a_killed_run_equals_one_that_was_not"

TESTS = {  # in the order of the columns
    "nano": [
        "test_readme.py::test_commands_run",
        "test_readme.py::test_commands_run",
        "test_finetune_doc.py::test_commands_run",
        LORA,
        INT8,
        SERVED,
        "interop/test_parts.py::test_export_of_a_siglip_a_family_and_others",
    ],
    "PaliGemma, PaliGemma 2 (pt, mix)": [
        "interop/test_paligemma.py::test_its_tasks_answer",
        FILES,
        "interop/test_paligemma_training.py::test_a_killed_run_goes_on_bit_for_bit_and_its_model_exports",
        CHAIN,
        FILES,
        CHAIN,
        "interop/test_paligemma.py::test_a_folder_goes_in_and_out_bit_for_bit",
    ],
    "T5Gemma 2": [
        COMMANDS,
        COMMANDS,
        "interop/test_t5gemma2.py::test_it_trains_with_the_loss_of_transformers",
        "interop/test_t5gemma2.py::test_an_adapter_of_it_in_int8_trains_resumes_and_answers",
        COMMANDS,
        CHAIN,
        "interop/test_t5gemma2.py::test_a_folder_goes_in_and_out_bit_for_bit",
    ],
    "SigLIP, SigLIP 2": [
        HALVES,
        "eval/test_running.py::test_benchmarks_of_embeddings_write_a_card_too",
        HALVES,
        "",
        INT8,
        "serve/test_http.py::test_embeddings_and_similarities",
        "interop/test_siglip.py::test_transformers_opens_our_siglip",
    ],
    "T5 v1.1, Flan-T5, mT5, umT5, UL2": [
        HALVES,
        "eval/test_own_file.py::test_a_file_gets_card_answers_page_and_slices",
        HALVES,
        LORA,
        HALVES,
        SERVED,
        "interop/test_t5.py::test_transformers_opens_our_t5",
    ],
}


def table() -> dict[str, list[str]]:
    text = (ROOT / "README.md").read_text("utf-8").partition("## What you can start from")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == ["", "predict", "evaluate", "train", "LoRA", "int8", "serve", "export"]
    return {name: cells for name, *cells in rows[2:]}


def test_behind_each_cell_stands_a_test() -> None:
    found = table()
    assert found.keys() == TESTS.keys()
    for name, tests in TESTS.items():
        assert [cell != "no" for cell in found[name]] == [bool(test) for test in tests], name
        for file, _, function in (test.partition("::") for test in tests if test):
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert re.search(rf"^def {function}\(", text, re.MULTILINE), (name, file, function)


def test_the_table_says_that_public_checkpoints_were_never_here() -> None:
    assert "**We had none of the other published checkpoints**" in (ROOT / "README.md").read_text("utf-8")
