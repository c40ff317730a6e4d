"""The engine inspector's answers of several versions, in the form that its documents show."""

from __future__ import annotations

import json

import pytest

from ssn_edge_runtime.engines.tensorrt_layers import layers_from_json
from ssn_edge_runtime.errors import EngineError

OF_10_3 = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv1",
            "LayerType": "Reformat",
            "Inputs": [
                {
                    "Name": "image",
                    "Location": "Device",
                    "Dimensions": [1, 3, 224, 224],
                    "Format/Datatype": "Row major linear FP32",
                }
            ],
            "Outputs": [
                {
                    "Name": "Reformatted Input Tensor 0 to conv1",
                    "Location": "Device",
                    "Dimensions": [1, 3, 224, 224],
                    "Format/Datatype": "Four wide channel vectorized row major Int8 format",
                }
            ],
            "ParameterType": "Reformat",
            "Origin": "REFORMAT",
            "TacticValue": "0x0",
        },
        {
            "Name": "layer1.0.conv1 + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "x",
                    "Dimensions": [1, 64, 56, 56],
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
                }
            ],
            "Outputs": [
                {
                    "Name": "y",
                    "Dimensions": [1, 64, 56, 56],
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
                }
            ],
            "ParameterType": "Convolution",
            "Weights": {"Type": "Int8", "Count": 36864},
            "Bias": {"Type": "Float", "Count": 64},
            "Activation": "RELU",
        },
        {
            "Name": "head",
            "LayerType": "CaskGemmConvolution",
            "Inputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            "Outputs": [{"Name": "z", "Format/Datatype": "Row major linear FP16 format"}],
            "Weights": {"Type": "Half", "Count": 64},
        },
    ],
    "Bindings": ["image", "score"],
}

OF_10_9 = {
    "Layers": [
        {
            "Name": "layer1.0.conv1",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
        },
        {
            "Name": "layer1.0.conv2",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "y", "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "z", "Format/Datatype": "Half"}],
        },
    ],
    "Bindings": ["pixels"],
}

OF_11 = {
    "Layers": [
        {
            "Name": "__myl_CastTran_myl0_0",
            "LayerType": "kgen",
            "Inputs": [
                {
                    "Name": "pixels",
                    "Dimensions": [1, 48, 64, 3],
                    "Strides": [9216, 192, 3, 1],
                    "StrideOrder": [3, 2, 1, 0],
                    "Datatype": "UInt8",
                    "Format": "(Linear) Row major linear format",
                }
            ],
            "Outputs": [
                {
                    "Name": "t0",
                    "Dimensions": [1, 3, 48, 64],
                    "Datatype": "Int8",
                    "Format": "(Linear) Row major linear format",
                }
            ],
            "TacticName": "__myl_CastTran_0x1",
        },
        {
            "Name": "conv1_myl0_1",
            "LayerType": "conv",
            "Inputs": [{"Name": "t0", "Datatype": "Int8", "Format": "(Linear)"}],
            "Outputs": [{"Name": "t1", "Datatype": "Half", "Format": "(Linear)"}],
        },
        {
            "Name": "proj_myl0_2",
            "LayerType": "gemm",
            "Inputs": [{"Name": "t1", "Datatype": "BFloat16", "Format": "(Linear)"}],
            "Outputs": [{"Name": "t2", "Datatype": "Float", "Format": "(Linear)"}],
        },
    ],
    "I/O Tensors": [{"Name": "pixels", "Datatype": "UInt8"}],
}

OF_RTX_1_7 = {
    "Layers": [
        {"Name": "entry^bb^signal^5_myl0_0", "LayerType": "signal", "Inputs": [], "Outputs": []},
        {
            "Name": "node_Conv_622_myl0_6",
            "LayerType": "correlation",
            "Inputs": [{"Name": "a", "Datatype": "Int8", "Format": "(NHWC) Channel major format"}],
            "Outputs": [{"Name": "b", "Datatype": "Int8", "Format": "(NHWC) Channel major format"}],
        },
        {
            "Name": "__mye33865_pooling_myl0_8",
            "LayerType": "maxpool",
            "Inputs": [{"Name": "b", "Datatype": "Int8"}],
            "Outputs": [{"Name": "c", "Datatype": "Int8"}],
        },
        {
            "Name": "node_matmul_5_myl0_50",
            "LayerType": "gemm",
            "Inputs": [{"Name": "d", "Datatype": "Float"}],
            "Outputs": [{"Name": "e", "Datatype": "Float"}],
        },
        {
            "Name": "__myl_FcAdd_myl0_153",
            "LayerType": "runtime_fusion",
            "Inputs": [{"Name": "e", "Datatype": "Float"}, {"Name": "f", "Datatype": "Float"}],
            "Outputs": [{"Name": "g", "Datatype": "Float"}],
        },
        {
            "Name": "__myl_Conc_myl0_59",
            "LayerType": "runtime_function",
            "Inputs": [{"Name": "g", "Datatype": "Float"}],
            "Outputs": [{"Name": "h", "Datatype": "Float"}],
        },
    ],
    "I/O Tensors": [],
}
"""Kinds, names and types as the builder logs them for an INT8 deploy graph of ours."""


@pytest.mark.parametrize(
    ("document", "counts"),
    [
        (OF_10_3, {"int8": 1, "fp16": 1}),
        (OF_10_9, {"int8": 1, "fp16": 1}),
        (OF_11, {"int8": 1, "bf16": 1}),
        (OF_RTX_1_7, {"int8": 1, "fp32": 2}),
    ],
    ids=["10.3", "10.9", "11", "rtx 1.7"],
)
def test_what_multiplies_in_which_type_is_counted(
    document: dict[str, object], counts: dict[str, int]
) -> None:
    layers = layers_from_json(json.dumps(document))
    assert layers.multiplying == counts


def test_copies_between_formats_do_not_count_as_int8() -> None:
    first = layers_from_json(json.dumps(OF_10_3)).layers[0]
    assert (first.inputs, first.outputs, first.multiplies) == (("fp32",), ("int8",), False)


def test_bytes_of_a_picture_are_not_taken_for_int8() -> None:
    first = layers_from_json(json.dumps(OF_11)).layers[0]
    assert first.inputs == ("other",)


def test_the_description_names_the_most_frequent_type_first() -> None:
    text = layers_from_json(json.dumps(OF_11)).describe()
    assert text == "1 of 2 convolutions and matrix products in INT8, 1 in BF16"


def test_a_plan_without_details_says_that_nothing_is_told() -> None:
    layers = layers_from_json(json.dumps({"Layers": ["conv1 + relu1", "gemm"], "Bindings": []}))
    assert layers.multiplying == {}
    assert layers.describe().startswith("2 layers; the library does not tell")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Layers": 3}', '{"Layers": [1]}'])
def test_an_answer_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        layers_from_json(text)
