"""The ONNX graphs of the networks for screens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from openpali.onnx.graphs import Graph, Inputs, pixels_of
from openpali_screen.elements.network import ElementFinder
from openpali_screen.elements.proposals import VIEWS
from openpali_screen.find.network import Finder
from openpali_screen.icons.network import IconClassifier
from openpali_screen.read.network import Reader
from openpali_screen.views import PATCH


def finder(model: Finder) -> Mapping[str, Graph]:
    outputs = ["logits", "up", "down"]
    return {"tiles": Graph(model, lambda pixels: tuple(model(pixels)), {"pixels": pixels_of(model.vit)}, outputs)}


def elements(model: ElementFinder) -> Mapping[str, Graph]:
    def screen(views: Tensor, kinds: Tensor, boxes: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        known = model.embed(views, kinds, boxes, size.expand(kinds.shape[0], 2))
        return tuple(model.run_head(model.run_encoder(known[None])[0], boxes))

    side = model.config.side
    inputs: Inputs = {
        "views": (torch.rand(3, VIEWS, side, side, 3) * 2 - 1, {0: "proposals"}),
        "kinds": (torch.tensor([0, 1, 2]), {0: "proposals"}),
        "boxes": (torch.tensor([[9.0, 9, 21, 60], [5, 5, 30, 90], [12, 70, 20, 78]]), {0: "proposals"}),
        "size": (torch.tensor([[600.0, 800.0]]), {}),
    }
    return {"elements": Graph(model, screen, inputs, ["logits", "sides"])}


def reader(model: Reader) -> Mapping[str, Graph]:
    height = model.config.vision.image_size[0]
    lines = torch.rand(2, height, 4 * PATCH, 3) * 2 - 1
    inputs: Inputs = {
        "pixels": (lines, {0: "batch", 2: f"{PATCH}*columns"}),
        "columns": (torch.tensor([4, 2]), {0: "batch"}),
    }
    return {"lines": Graph(model, model, inputs, ["logits"])}


def icons(model: IconClassifier) -> Mapping[str, Graph]:
    return {"icons": Graph(model, model, {"pixels": pixels_of(model.vit)}, ["logits"])}
