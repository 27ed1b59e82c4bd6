"""ViT-MAE (He et al. 2021), as `transformers` stores it: a ViT with the decoder that it was pre-trained with."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, harmless, used
from mmtx.errors import UserError
from mmtx.interop.bert import BODY_SAME
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.image_preprocessing import read_preprocessor
from mmtx.interop.links import PARTS, Link, Several, Weights, both, encoder_block, reshaped
from mmtx.interop.pictures import picture_batch, picture_size, picture_spec, picture_values, sides, square_patch
from mmtx.interop.vit import BLOCK, ViT
from mmtx.learner import Learner
from mmtx.objectives.masked_autoencoder import MaskedAutoencoder

OBJECTIVE = "objective.masked_autoencoder"
DECODER = "objectives.masked_autoencoder.decoder"
OF_BOTH_STACKS = {
    path.removeprefix("backbone."): key
    for path, key in BODY_SAME.items()
    if path.endswith((".eps", "dropout", "init_std"))
}
"""Keys that are one for encoder and decoder, by their paths in either."""


class ViTMAE(ViT):
    """ViT-MAE with its decoder. A model that is fine-tuned begins with the encoder's weights, those of a ViT."""

    name = "vit_mae"
    body = ""
    prefix = ""
    backbone = "vit"
    kinds = ("ViTMAEForPreTraining",)
    keys: ClassVar[Keys] = {
        **DECODER_FLAGS,
        **encoder_decoder(False),
        **{key: ViT.keys[key] for key in (*BODY_SAME.values(), "intermediate_size", "hidden_act", "qkv_bias")},
        **{key: ViT.keys[key] for key in ("image_size", "patch_size", "num_channels", "tie_word_embeddings")},
        "decoder_hidden_size": used("width of the decoder", 512),
        "decoder_num_hidden_layers": used("layers of the decoder", 8),
        "decoder_num_attention_heads": used("heads of the decoder", 16),
        "decoder_intermediate_size": used("width of the decoder's feed-forward half", 2048),
        "mask_ratio": used("share of the patches that is left out", 0.75),
        "norm_pix_loss": used("normalised patches in the loss", False),
        **dict.fromkeys(CLASSES, harmless("there is no head for classes")),
    }
    same: ClassVar[Mapping[str, str]] = {
        **ViT.same,
        **{f"{OBJECTIVE}.decoder.{path}": key for path, key in OF_BOTH_STACKS.items()},
        f"{OBJECTIVE}.decoder.dim": "decoder_hidden_size",
        f"{OBJECTIVE}.decoder.num_layers": "decoder_num_hidden_layers",
        f"{OBJECTIVE}.decoder.num_heads": "decoder_num_attention_heads",
        f"{OBJECTIVE}.share": "mask_ratio",
        f"{OBJECTIVE}.normalise": "norm_pix_loss",
    }
    renames = (
        (r"^vit\.layers\.", "vit.encoder.layer."),
        (r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers."),
        *ViT.renames[2:],
    )
    modules = ViT.modules

    def complete(self, config: Config, weights: Weights) -> Config:
        config = Family.complete(self, config, weights)
        config["patch_size"] = square_patch(config, self.name)
        rows, columns = sides(config)
        if rows != columns:
            raise UserError(f"image_size={[rows, columns]}: pictures of a {self.name} are square")
        if "decoder.mask_token" not in weights:
            raise UserError(f"this {self.kinds[0]} lacks its decoder: decoder.mask_token is missing")
        return {**config, "image_size": rows}

    def describe(self, config: Config, files: Files) -> Described:
        size, channels = sides(config), config["num_channels"]
        prepared = read_preprocessor(files.side_files.get("preprocessor_config", {}), size, channels)
        act, decoder = config["hidden_act"], f"{OBJECTIVE}.decoder"
        biases = [*PARTS, "out"] if config["qkv_bias"] else ["out"]
        values = self.from_same(config) | {
            **feed_forward(act, config["intermediate_size"], config["hidden_size"]),
            **feed_forward(act, config["decoder_intermediate_size"], config["decoder_hidden_size"], decoder),
            "backbone.attention.bias": biases,
            f"{decoder}.attention.bias": biases,
            **picture_values(prepared, size, channels),
            "modality.image.summary": True,
        }
        choices = ["data=image_folder", "modality=[image]", "backbone=vit", "objective=[masked_autoencoder]"]
        return Described(choices, values, {"image": picture_spec(size, channels)})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        decoder = at(ours, f"{OBJECTIVE}.decoder")
        return self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "decoder_intermediate_size": hidden_width(decoder["mlp"], decoder["dim"]),
            **picture_size(specs),
            "qkv_bias": "query" in at(ours, "backbone.attention.bias"),
            "architectures": [self.kinds[0]],
        }

    def links(self, config: Config) -> list[Link]:
        dim, patch, channels = (config[key] for key in ("decoder_hidden_size", "patch_size", "num_channels"))
        links = super().links({**config, "architectures": ["ViTModel"], "add_pooling_layer": False})
        links += both(f"{DECODER}.embed", "decoder.decoder_embed")
        links += [reshaped(f"{DECODER}.mask", "decoder.mask_token", (dim,), (1, 1, dim))]
        links += [_positions()]
        for layer in range(config["decoder_num_hidden_layers"]):
            block, there = f"{DECODER}.stack.blocks.{layer}", f"decoder.decoder_layers.{layer}"
            biases = PARTS if config["qkv_bias"] else ()
            links += encoder_block(block, there, attention="attention.attention", names=BLOCK, biases=biases)
        links += both(f"{DECODER}.stack.final_norm", "decoder.decoder_norm")
        parts = ("weight", "bias")
        return links + [
            _pixels(f"{DECODER}.heads.image.{p}", f"decoder.decoder_pred.{p}", patch, channels) for p in parts
        ]

    def example(self, config: Config) -> dict[str, Tensor]:
        count = (sides(config)[0] // config["patch_size"]) ** 2
        noise = torch.rand(2, count, generator=torch.Generator().manual_seed(0))
        return {**super().example(config), "noise": noise}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """``logits`` of all patches, whose pixels have their channels last there, and the ``loss``. Patches with the
        most ``noise`` are left out."""
        objective, batch = learner.objective("masked_autoencoder"), picture_batch(learner, inputs["pixel_values"])
        assert isinstance(objective, MaskedAutoencoder)
        patches = objective.patches(learner.model, batch, "image")
        counts = torch.full((patches.shape[0],), patches.shape[1], device=patches.device)
        batch = batch.with_values("image", patches=patches, masked=objective.masked(inputs["noise"], counts))
        predicted = objective.predicted(learner.model, batch)
        loss = objective.errors(predicted, batch)["image"].sum() / objective.count(batch)
        patch, channels = config["patch_size"], config["num_channels"]
        logits = predicted["image"].unflatten(2, (channels, patch, patch)).permute(0, 1, 3, 4, 2).flatten(2)
        return {"logits": logits, "loss": loss}


def _positions() -> Link:
    """Those of CLS and of patches are one table there, which adds them before its decoder."""
    ours = (f"{DECODER}.prefixes.image", f"{DECODER}.positions.image.table.weight")

    def read(theirs: Several) -> Several:
        return [theirs[0][0, :1].contiguous(), theirs[0][0, 1:].contiguous()]

    return Link(ours, ("decoder.decoder_pos_embed",), read, lambda several: [torch.cat(list(several))[None]])


def _pixels(ours: str, theirs: str, patch: int, channels: int) -> Link:
    """Rows are the pixels of a patch, whose channels come last there and first here."""

    def read(several: Several) -> Several:
        return [several[0].unflatten(0, (patch**2, channels)).transpose(0, 1).flatten(0, 1).contiguous()]

    def write(several: Several) -> Several:
        return [several[0].unflatten(0, (channels, patch**2)).transpose(0, 1).flatten(0, 1).contiguous()]

    return Link((ours,), (theirs,), read, write)
