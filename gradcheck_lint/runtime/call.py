"""The calls of torch's own functions that `patches` wraps and tells of, beside backward."""

from __future__ import annotations

from enum import Enum


class Call(Enum):
    """The value is what is called: on an optimizer, or as it says."""

    BUILD = "build"
    ZERO_GRAD = "zero_grad"
    ADD_PARAM_GROUP = "add_param_group"
    LOAD_STATE = "load_state_dict"
    STATE = "state_dict"
    REGISTER = "register"  # a parameter or a module is assigned to an attribute of a module
    MODULE_ZERO_GRAD = "module.zero_grad"
    MODULE_TRAIN = "module.train"  # told by a hook of its own: see `Session.switched`
    MODULE_REQUIRES_GRAD = "module.requires_grad_"  # the outermost call alone
    MODULE_APPLY = "module._apply"  # it is moved or converted
    MODULE_LOAD_STATE = "module.load_state_dict"
    MODULE_STATE = "module.state_dict"
    SCHEDULER_BUILD = "scheduler.__init__"  # calls `step` once, before any step of the optimizer
    SCHEDULER_STEP = "scheduler.step"  # not of a class with a `step` of its own, as CosineAnnealingWarmRestarts
    SCALER_BUILD = "scaler.__init__"
    SCALER_SCALE = "scaler.scale"
    SCALER_UNSCALE = "scaler.unscale_"
    SCALER_STEP = "scaler.step"
    SCALER_UPDATE = "scaler.update"
    CLIP = "clip"
