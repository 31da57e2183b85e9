from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sentence_transformers.modules.clip_model import CLIPModel
from tiny import tiny_clip

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def clip(folder) -> CLIPModel:
    return CLIPModel(folder).eval()


def picture(seed: int, height: int = 20, width: int = 16):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def embed(clip: CLIPModel, inputs: list) -> torch.Tensor:
    with torch.no_grad():
        return clip(clip.preprocess(inputs))["sentence_embedding"]


def test_texts_and_images_come_out_in_the_order_they_came_in(clip):
    inputs = ["hello cat", picture(1), "a", picture(2), picture(3)]
    one_by_one = torch.cat([embed(clip, [item]) for item in inputs])
    torch.testing.assert_close(embed(clip, inputs), one_by_one, atol=1e-5, rtol=1e-4)


def test_features_say_which_input_is_which(clip):
    features = clip.tokenize(["hello", picture(1), "a"])
    assert features["image_text_info"] == [1, 0, 1]
    assert features["input_ids"].shape == features["attention_mask"].shape == (2, 7)
    assert features["pixel_values"].shape == (1, 3, 12, 12)


def test_a_text_embedding_is_the_projected_one_of_transformers(clip):
    features = clip.preprocess(["hello cat"])
    with torch.no_grad():
        states = clip.model.text_model(
            input_ids=features["input_ids"], attention_mask=features["attention_mask"]
        )
        expected = clip.model.text_projection(states.pooler_output)
    torch.testing.assert_close(embed(clip, ["hello cat"]), expected)


def test_an_image_embedding_is_the_projected_one_of_transformers(clip):
    pixels = clip.preprocess([picture(1)])["pixel_values"]
    with torch.no_grad():
        expected = clip.model.visual_projection(clip.model.vision_model(pixel_values=pixels).pooler_output)
    torch.testing.assert_close(embed(clip, [picture(1)]), expected)


def test_images_may_be_arrays_tensors_and_entries_of_a_dictionary(clip):
    array = np.asarray(picture(1))
    forms = [picture(1), array, torch.from_numpy(array.copy()).permute(2, 0, 1), {"image": picture(1)}]
    for form in forms[1:]:
        torch.testing.assert_close(embed(clip, [form]), embed(clip, forms[:1]))
    torch.testing.assert_close(embed(clip, [{"text": "a"}]), embed(clip, ["a"]))


def test_grey_images_are_read_as_coloured_ones(clip):
    grey = picture(1).convert("L")
    torch.testing.assert_close(embed(clip, [grey]), embed(clip, [grey.convert("RGB")]))


@pytest.mark.parametrize("bad", [3, None, ("a", "b"), b"a"])
def test_anything_else_is_refused(clip, bad):
    with pytest.raises(ValueError, match="unsupported input type"):
        clip.preprocess(["a", bad])


def test_no_inputs_give_no_rows(clip):
    assert embed(clip, []).shape == (0, 8)


def test_features_without_information_hold_texts_first(clip):
    features = clip.preprocess(["a", picture(1)])
    del features["image_text_info"]
    with torch.no_grad():
        torch.testing.assert_close(clip(features)["sentence_embedding"], embed(clip, ["a", picture(1)]))


def test_a_prompt_is_put_before_texts_only(clip):
    with_prompt = clip.preprocess(["cat", picture(1)], prompt="a ")
    assert torch.equal(with_prompt["input_ids"], clip.preprocess(["a cat"])["input_ids"])


def test_texts_are_padded_as_asked(clip):
    assert clip.tokenize(["a", "a b"])["input_ids"].shape == (2, 4)
    assert clip.tokenize(["a", "a b"], padding="max_length")["input_ids"].shape == (2, 16)


def test_long_texts_are_cut_to_the_positions_there_are(clip):
    assert clip.max_seq_length == 16
    assert clip.preprocess(["x" * 50])["input_ids"].shape == (1, 16)


def test_the_width_is_that_of_the_shared_space(clip):
    assert clip.get_embedding_dimension() == clip.get_sentence_embedding_dimension() == 8
    assert clip.tokenizer is clip.processor.tokenizer
    assert clip.auto_model is clip.model


def test_saved_and_loaded_equal_with_the_files_of_older_releases(folder, tmp_path):
    clip = CLIPModel(model_name=folder).eval()
    clip.max_seq_length = 5
    clip.save(str(tmp_path))
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["crop_size"]["height"] == 12
    loaded = CLIPModel.load(input_path=str(tmp_path)).eval()
    assert loaded.max_seq_length == 5
    inputs = ["hello cat", picture(1)]
    torch.testing.assert_close(embed(loaded, inputs), embed(clip, inputs))


def test_a_part_can_be_loaded_out_of_a_folder_of_its_model(folder, tmp_path):
    CLIPModel(folder).save(str(tmp_path / "0_CLIPModel"))
    loaded = CLIPModel.load(str(tmp_path), subfolder="0_CLIPModel").eval()
    assert embed(loaded, ["a"]).shape == (1, 8)
