"""OpenVINO and training stay in different processes of the tests."""

from __future__ import annotations

import pytest

from openpali.train.trainer import Trainer


def test_training_after_a_test_that_ran_openvino_is_refused(ran_openvino: list[str]) -> None:
    ran_openvino.append("another")
    with pytest.raises(RuntimeError, match="another"):
        Trainer.train(object.__new__(Trainer))
    ran_openvino.pop()
