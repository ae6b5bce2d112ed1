"""Tiny random models for tests of what is written, and what plain transformers makes of them."""

import pytest

from rpp_env.llm import Decoding

CHAT_TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PROMPTS = ["A", "Films I have watched: Alien, Heat. Next", "Zzz", "Toy Story", "Toy Story 2, and"]
GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(temperature=1.5, max_tokens=12)
LABELS = [["A", "B", "!"], ["B", "A"], ["x"], ["A", "A"], ["q", "r"]]


def make_models(tmp_path_factory):
    """Folders of models with rotary and with learned positions; "<end>" ends a turn of a chat."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    letters = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    characters = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    characters.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=characters, additional_special_tokens=["<end>"]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    size = len(letters)
    never = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    llama = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        **never,
    )
    gpt2 = transformers.GPT2Config(
        vocab_size=size,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.5,
        **never,
    )
    folders = {}
    for name, config in {"llama": llama, "gpt2": gpt2}.items():
        folders[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


def plain(folder):
    """The model by plain transformers: tokens of a text, and log-probabilities after tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def log_probs_after(tokens):
        with torch.inference_mode():
            return model(torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1).numpy()

    return tokenizer, log_probs_after


def tokens_by_hand(folder, prompt, num_tokens, stops=()):
    tokenizer, log_probs_after = plain(folder)
    tokens = tokenizer(prompt)["input_ids"]
    written = []
    while len(written) < num_tokens and not {*written} & {*stops}:
        written.append(int(log_probs_after([*tokens, *written]).argmax()))
    return tokenizer, written


def greedy_by_hand(folder, prompt, num_tokens, stops=()):
    tokenizer, written = tokens_by_hand(folder, prompt, num_tokens, stops)
    stopped = written[-1] in stops
    text = tokenizer.decode(written[:-1] if stopped else written, skip_special_tokens=True)
    return text, "stop" if stopped else "length"


def of(completions):
    return [(each.text, each.finish_reason) for each in completions]
