"""Makes tests/data/dictionaries/: small dictionaries as SAELens and sparsify write them, with what these tools compute.

    pip install sae-lens==6.54.12 eai-sparsify==1.3.3 && python scripts/dictionary_files.py

Each folder holds the tool's own files and expected.json: inputs, features and reconstructions by the tool itself. The weights are
random and the sizes small. `old` has a configuration as SAELens wrote it before version 6. Gemma Scope's file is written by its
published layout with numpy, its features computed by the formula of its paper.
"""

import json
import os
import shutil

import numpy as np
import torch
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAE, SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from sparsify import SparseCoder, SparseCoderConfig, sparse_coder
from sparsify.utils import eager_decode

# Its kernels in Triton want a GPU; this is its own decoder in PyTorch.
sparse_coder.decoder_impl = eager_decode

WIDTH, FEATURES = 6, 10
OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "dictionaries")
HOOK = "blocks.1.hook_resid_post"


def randomise(module, generator):
    for name, tensor in module.state_dict().items():
        if name == "topk_threshold":
            tensor.fill_(0.3)
        elif name == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.7)


def expect(folder, x, features, x_hat):
    lists = {"x": x, "features": features, "x_hat": x_hat}
    with open(os.path.join(OUT, folder, "expected.json"), "w") as file:
        json.dump({key: value.detach().tolist() for key, value in lists.items()}, file)


def common(**more):
    metadata = SAEMetadata(model_name="tiny", hook_name=HOOK, prepend_bos=True)
    return dict(d_in=WIDTH, d_sae=FEATURES, metadata=metadata) | more


def main():
    for entry in os.scandir(OUT):
        if entry.is_dir():
            shutil.rmtree(entry.path)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, WIDTH, generator=generator) * 2 + 0.5
    cases = {
        "standard": StandardSAE(StandardSAEConfig(**common())),
        "standard-layer-norm": StandardSAE(StandardSAEConfig(**common(normalize_activations="layer_norm"))),
        "standard-constant-norm": StandardSAE(
            StandardSAEConfig(**common(normalize_activations="constant_norm_rescale", apply_b_dec_to_input=False))
        ),
        "topk": TopKSAE(TopKSAEConfig(**common(k=3))),
        "topk-rescaled": TopKSAE(TopKSAEConfig(**common(k=3, rescale_acts_by_decoder_norm=True))),
        "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(**common(apply_b_dec_to_input=False))),
        "gated": GatedSAE(GatedSAEConfig(**common())),
    }
    for name, sae in cases.items():
        randomise(sae, generator)
        folder = os.path.join(OUT, name)
        sae.save_model(folder)
        sae = SAE.load_from_disk(folder)
        with torch.no_grad():
            features = sae.encode(x)
            expect(name, x, features, sae.decode(features))

    # Trained as BatchTopK, exported by SAELens as JumpReLU.
    trained = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common(k=3)))
    randomise(trained, generator)
    folder = os.path.join(OUT, "batchtopk-exported")
    trained.save_inference_model(folder)
    sae = SAE.load_from_disk(folder)
    with torch.no_grad():
        features = sae.encode(x)
        expect("batchtopk-exported", x, features, sae.decode(features))

    # The keys at the top level, k in activation_fn_kwargs, no architecture.
    source, folder = os.path.join(OUT, "topk"), os.path.join(OUT, "old-topk")
    shutil.copytree(source, folder)
    old = {
        "dtype": "float32",
        "device": "cpu",
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "hook_point": HOOK,
        "model_name": "tiny",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "apply_b_dec_to_input": True,
        "normalize_activations": False,
        "finetuning_scaling_factor": False,
        "prepend_bos": True,
    }
    with open(os.path.join(folder, "cfg.json"), "w") as file:
        json.dump(old, file)
    sae = SAE.load_from_disk(folder)
    with torch.no_grad():
        features = sae.encode(x)
        expect("old-topk", x, features, sae.decode(features))

    coder = SparseCoder(WIDTH, SparseCoderConfig(num_latents=FEATURES, k=3))
    randomise(coder, generator)
    folder = os.path.join(OUT, "layers.1.mlp")
    coder.save_to_disk(folder)
    coder = SparseCoder.load_from_disk(folder)
    with torch.no_grad():
        top, indices, _ = coder.encode(x)
        features = torch.zeros(len(x), FEATURES).scatter(-1, indices, top)
        expect("layers.1.mlp", x, features, coder(x).sae_out)

    folder = "gemma-scope-tiny-res/layer_1"
    os.makedirs(os.path.join(OUT, folder))
    draw = lambda *shape: (torch.randn(*shape, generator=generator) * 0.7).numpy()
    params = {
        "W_enc": draw(WIDTH, FEATURES),
        "W_dec": draw(FEATURES, WIDTH),
        "b_enc": draw(FEATURES),
        "b_dec": draw(WIDTH),
        "threshold": np.abs(draw(FEATURES)),
    }
    np.savez(os.path.join(OUT, folder, "params.npz"), **params)
    pre = x.numpy() @ params["W_enc"] + params["b_enc"]
    features = (pre > params["threshold"]) * np.maximum(pre, 0)
    expect(folder, x, torch.tensor(features), torch.tensor(features @ params["W_dec"] + params["b_dec"]))


main()
