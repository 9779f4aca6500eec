"""What is known of the names of torch and of the packages around it."""

from __future__ import annotations

import pytest

from gradcheck_lint.source.torch_api import makes_model


@pytest.mark.parametrize(
    "name",
    [
        "torchvision.models.resnet18",
        "torchvision.models.resnet.resnet18",
        "torchvision.models.get_model",
        "torchvision.models.vit_b_16",
        "torchvision.models.vision_transformer.VisionTransformer",
        "torchvision.models.detection.fasterrcnn_resnet50_fpn",
        "torchvision.models.detection.backbone_utils.resnet_fpn_backbone",
        "torchvision.models.segmentation.deeplabv3_resnet50",
        "torchvision.models.ResNet",
        "timm.create_model",
        "timm.models.resnet50",
        "torch.hub.load",
    ],
)
def test_networks_of_a_collection(name: str) -> None:
    assert makes_model(name)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision.models.utils.load_state_dict_from_url",
        "torchvision.models.resnet.load_state_dict_from_url",
        "torchvision.models.get_weight",
        "torchvision.models.get_model_weights",
        "torchvision.models.list_models",
        "torchvision.models.ResNet18_Weights.DEFAULT.get_state_dict",
        "torchvision.models.resnet.model_urls.get",
        "torchvision.models.resnet.conv3x3",
        "torchvision.models.vgg.cfgs.copy",
        "torchvision.models.inception.InceptionOutputs",
        "torchvision.models.detection.image_list.ImageList",
        "torchvision.models.detection.anchor_utils.AnchorGenerator",
        "timm.models.load_checkpoint",
        "timm.models.clean_state_dict",
        "timm.models.helpers.checkpoint_seq",
        "timm.list_models",
        "torch.hub.load_state_dict_from_url",
    ],
)
def test_what_lies_beside_them(name: str) -> None:
    assert not makes_model(name)
