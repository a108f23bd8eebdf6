"""ADD A BACKBONE: one line in ``table.py``. From a name or a model file to an exported network.

``resolve`` checks a choice (no TensorFlow where it can be avoided); ``export`` writes what the
workers load.
"""

from transforms.backbones.export import export, model_id
from transforms.backbones.resolve import resolve
from transforms.backbones.spec import VALUE_MODES, Backbone, Resolved, Weights
from transforms.backbones.table import BACKBONES, find_backbone
from transforms.choices import BackboneConfig

__all__ = ["BACKBONES", "VALUE_MODES", "Backbone", "BackboneConfig", "Resolved", "Weights"]
__all__ += ["export", "find_backbone", "model_id", "resolve"]
