"""The reader of screens of a bundle: ONNX Runtime runs its networks where it has graphs of them, else torch."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch

from openpali.infer.bundle import Bundle
from openpali.metrics.calibration import Calibration as Fitted
from openpali.processor import bf16_is_faster
from openpali.tasks.detect import Detect
from openpali.tasks.ocr import Ocr
from openpali.weights.ood import OodDetector, read_ood
from openpali_screen.elements.network import ElementFinder, elements_of
from openpali_screen.find.network import Finder, finder_of
from openpali_screen.icons.network import IconClassifier, icons_of
from openpali_screen.networks import (
    Calibration,
    ElementNetwork,
    FinderNetwork,
    IconNetwork,
    Networks,
    PageDetector,
    ReaderNetwork,
)
from openpali_screen.parts import ELEMENTS, FINDER, ICONS, READER, graphs_of
from openpali_screen.read.fit_language import read_language
from openpali_screen.read.network import Reader, reader_of
from openpali_screen.reader import ScreenReader
from openpali_screen.runtime import open_networks
from openpali_screen.vit import array_of

N = TypeVar("N", FinderNetwork, ReaderNetwork, ElementNetwork, IconNetwork)
_readers: WeakKeyDictionary[Bundle, ScreenReader] = WeakKeyDictionary()
_lock = Lock()


def reader_of_bundle(bundle: Bundle) -> ScreenReader:
    """The reader of a bundle's parts: one for all who ask, since it keeps the last screen.

    Raises:
        ValueError: it has no parts that read pages.
    """
    with _lock:
        if bundle not in _readers:
            _readers[bundle] = ScreenReader(networks_of(bundle))
        return _readers[bundle]


def networks_of(bundle: Bundle) -> Networks:
    """Of the parts of a bundle, on the CPU from their graphs if it has them (:func:`graphs_of`).

    Raises:
        ValueError: it has no parts that read pages.
    """
    graphs = graphs_of(bundle.folder) if bundle.device.type == "cpu" else None
    return _fitted(open_networks(graphs), bundle) if graphs else torch_networks_of(bundle)


def torch_networks_of(bundle: Bundle) -> Networks:
    """As :func:`networks_of`, from the weights."""
    (_, finder), (stored, reader) = bundle.load(FINDER), bundle.load(READER)
    has_elements, has_icons = (part in bundle.parts for part in (ELEMENTS, ICONS))
    elements = elements_of(cast(ElementFinder, bundle.load(ELEMENTS)[1])) if has_elements else None
    icons = icons_of(cast(IconClassifier, bundle.load(ICONS)[1])) if has_icons else None
    networks = Networks(
        bundle.name,
        _in_bf16(finder_of(cast(Finder, finder)), bundle),
        _in_bf16(reader_of(cast(Reader, reader)), bundle),
        elements and _in_bf16(elements, bundle),
        icons and _in_bf16(icons, bundle),
        read_language(stored.folder),
    )
    return _fitted(networks, bundle)


def _fitted(networks: Networks, bundle: Bundle) -> Networks:
    """With what :mod:`openpali.eval.calibration` fitted to the bundle."""
    detector = read_ood(bundle.part(FINDER).folder)
    return replace(
        networks,
        detector=page_detector(detector) if detector else None,
        words=_calibration(bundle.calibration(READER, Ocr.name)),
        roles=_calibration(bundle.calibration(ELEMENTS, Detect.name)) if ELEMENTS in bundle.parts else None,
    )


def page_detector(detector: OodDetector) -> PageDetector:
    mean, whiten, centres = map(array_of, (detector.mean, detector.whiten, detector.centres))
    return PageDetector(mean, whiten, centres, float(detector.limit))


def _in_bf16(network: N, bundle: Bundle) -> N:
    """The network with matmuls in bf16 where that is faster, as in training: scores stay equal."""
    device, run = bundle.device, network.run

    def autocast(*inputs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return run(*inputs)

    return replace(network, run=autocast) if bf16_is_faster(device) else network


def _calibration(fitted: Fitted | None) -> Calibration | None:
    return Calibration(fitted.temperature, fitted.offset, fitted.offsets) if fitted else None
