"""Model files as people have them: GGUF files, LoRA adapters, templates without a system role."""

import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from rpp_env.errors import LLMError, RppError
from rpp_env.llm import Chat, Decoding, load_llm
from rpp_env.llm.checkpoint import resolve_checkpoint, weights_identity
from rpp_env.llm.transformers.transformers_llm import TransformersLLM

WIDTH, HEADS, INNER = 32, 4, 64


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path / "cache"))


def write_gguf(path, seed=0, *, tied=False):
    """A tiny random model of llama's architecture, of one layer, that reads bytes."""
    gguf = pytest.importorskip("gguf")
    tokenizers = pytest.importorskip("tokenizers")
    tokens = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "er", "<|end|>"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(["e r"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_bos_token_id(len(tokens) - 1)
    draw = np.random.default_rng(seed)
    shapes = {
        "token_embd": (len(tokens), WIDTH),
        "output": (len(tokens), WIDTH),
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
        **{f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")},
    }
    if tied:
        del shapes["output"]
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(0, 0.3, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def by_transformers(path, text, labels):
    """Log-probabilities of labels after a text, by transformers' own reading of a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    ids = TransformersLLM(str(path), num_workers=1)._load()[0]("")["input_ids"]
    ids = [*ids, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.inference_mode():
        log_probs = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
    return [
        float(log_probs[tokenizer(each, add_special_tokens=False)["input_ids"][0]])
        for each in labels
    ]


@pytest.mark.parametrize("form", ["file", "folder", "below a folder", "upper case"])
def test_a_gguf_file_is_a_model_however_it_is_named(tmp_path, form):
    folder = tmp_path / "my models (new)"
    inner = folder / "Q8" if form == "below a folder" else folder
    inner.mkdir(parents=True)
    file = write_gguf(inner / ("tiny.GGUF" if form == "upper case" else "tiny.gguf"))
    model = str(file if form in ("file", "upper case") else folder)
    llm = load_llm(f"transformers:{model}", device="cpu", num_workers=1)
    (scores,) = llm.next_token_logprobs(["Toy St"], [["o", "A", "!"]])
    np.testing.assert_allclose(scores, by_transformers(file, "Toy St", ["o", "A", "!"]), atol=1e-4)
    assert resolve_checkpoint(model) == resolve_checkpoint(model)
    assert weights_identity(model).keys() == {"sha256"}


def stored(checkpoint):
    """Types and bytes of what a checkpoint's file holds."""
    from safetensors.torch import load_file

    tensors = load_file(f"{checkpoint}/model.safetensors")
    assert not any((each == 0).all() for each in tensors.values())
    return {each.dtype for each in tensors.values()}, sum(t.nbytes for t in tensors.values())


def test_tied_weights_are_stored_once(tmp_path):
    tied = write_gguf(tmp_path / "tied.gguf", tied=True)
    untied = write_gguf(tmp_path / "untied.gguf")
    sizes = [stored(resolve_checkpoint(str(each)))[1] for each in (tied, untied)]
    config = json.loads(Path(resolve_checkpoint(str(tied)), "config.json").read_text())
    assert sizes[1] - sizes[0] == config["vocab_size"] * WIDTH * 4
    llm = load_llm(f"transformers:{tied}", device="cpu", num_workers=1)
    (scores,) = llm.next_token_logprobs(["Toy St"], [["o", "A", "!"]])
    np.testing.assert_allclose(scores, by_transformers(tied, "Toy St", ["o", "A", "!"]), atol=1e-4)


def test_for_bfloat16_a_gguf_file_is_stored_as_that_and_nothing_is_lost(tmp_path):
    import torch

    file = str(write_gguf(tmp_path / "tiny.gguf"))
    whole, half = (resolve_checkpoint(file, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert (stored(whole)[0], stored(half)[0]) == ({torch.float32}, {torch.bfloat16})
    assert stored(whole)[1] == 2 * stored(half)[1]
    assert resolve_checkpoint(file, dtype="float16") == whole
    options = {"device": "cpu", "num_workers": 1, "dtype": "bfloat16"}
    asked = ["Toy St"], [["o", "A", "!"]]
    (scores,) = load_llm(f"transformers:{file}", **options).next_token_logprobs(*asked)
    (rounded,) = load_llm(f"transformers:{whole}", **options).next_token_logprobs(*asked)
    np.testing.assert_array_equal(scores, rounded)


def test_another_file_under_the_same_name_is_another_model(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf")
    first, identity = resolve_checkpoint(str(file)), weights_identity(str(file))
    write_gguf(file, seed=1)
    assert resolve_checkpoint(str(file)) != first
    assert weights_identity(str(file)) != identity


def test_gguf_files_that_cannot_be_one_model_are_named(tmp_path):
    with pytest.raises(LLMError, match=r"none\.gguf does not exist"):
        resolve_checkpoint(str(tmp_path / "none.gguf"))
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(LLMError, match=r"several GGUF files; give the path of one of: a\.gguf, b"):
        resolve_checkpoint(str(tmp_path))
    with pytest.raises(LLMError, match=r"cannot be read by transformers .*serve it by llama\.cpp"):
        resolve_checkpoint(str(tmp_path / "a.gguf"))
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in (1, 2):
        (parts / f"big-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(LLMError, match=r"one of 2 parts.*--merge"):
        resolve_checkpoint(str(parts))


def test_an_ordinary_checkpoint_beside_a_gguf_file_is_loaded_as_it_is(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models["llama"], folder)
    (folder / "also.gguf").write_bytes(b"GGUF")
    assert resolve_checkpoint(str(folder)) == str(folder)


def write_adapter(folder, base):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_an_adapter_needs_peft_and_that_is_said(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    adapter = write_adapter(tmp_path / "adapter", str(models["llama"]))
    with pytest.raises(RppError, match=r"LoRA adapter.*rpp-env\[lora\]"):
        resolve_checkpoint(str(adapter))
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(LLMError, match="base_model_name_or_path"):
        resolve_checkpoint(str(adapter))


def test_an_adapter_is_merged_into_its_base(models, tmp_path):
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(base, config).eval()
    tuned.save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(models["llama"])
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(settings))
    llm = TransformersLLM(str(tmp_path / "adapter"), device="cpu", num_workers=1)
    plain = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    (scores,) = llm.next_token_logprobs(["Toy St"], [["o", "A"]])
    tokenizer, _ = llm._load()
    with torch.inference_mode():
        logits = tuned(torch.tensor([tokenizer("Toy St")["input_ids"]])).logits[0, -1]
    expected = logits.double().log_softmax(-1)[[tokenizer(x)["input_ids"][0] for x in ("o", "A")]]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)
    assert not np.allclose(scores, plain.next_token_logprobs(["Toy St"], [["o", "A"]])[0])
    assert weights_identity(str(tmp_path / "adapter")).keys() >= {"sha256", "base_sha256"}


TEMPLATES = {
    "raises": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported')"
    " }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    "alternates": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<{{ m.role }}>"
    "{{ m.content }}{% endfor %}",
    "drops it without a word": "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>"
    "{{ m.content }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_without_a_system_role_its_text_is_put_before_the_users(models, tmp_path, kind, caplog):
    folder = tmp_path / kind
    shutil.copytree(models["llama"], folder)
    (folder / "chat_template.jinja").write_text(TEMPLATES[kind])
    llm = TransformersLLM(str(folder), num_workers=1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            text = llm.apply_chat_template(system="You are", user="Rank")
    assert text == "<user>You are\n\nRank"
    assert sum("no system role" in record.getMessage() for record in caplog.records) == 1
    asked = [Chat(system="You are", user="Rank"), "<user>You are\n\nRank"]
    chat, plain = llm.generate(asked, decoding=Decoding(max_tokens=2))
    assert chat.text == plain.text


def test_a_template_that_takes_no_chat_at_all_is_one_line(models, tmp_path):
    folder = tmp_path / "never"
    shutil.copytree(models["llama"], folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only tools') }}")
    llm = TransformersLLM(str(folder), num_workers=1)
    with pytest.raises(LLMError, match=r"does not take a user's turn; use a catalog"):
        llm.apply_chat_template(system="", user="u")


def test_a_checkpoint_without_a_template_says_what_to_do(models, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(models["llama"], folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(LLMError, match=r"no chat template.*chat_template\.jinja"):
        TransformersLLM(str(folder), num_workers=1).apply_chat_template(system="", user="u")
