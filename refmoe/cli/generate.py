"""refmoe generate"""

import json

import click

from refmoe.cli import _shared


@click.command("generate")
@click.argument("prompt", required=False)
@_shared.model_option
@_shared.ids_option
@click.option("--special", is_flag=True, help="Recognise special tokens written in the prompt.  [default: plain text]")
@click.option("--max-tokens", type=int, default=128, show_default=True, help="Stop after this many.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy: no randomness.")
@click.option("--top-k", type=int, default=0, show_default=True, help="Keep the k most likely tokens; 0 keeps all.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Keep the fewest tokens with this share.")
@click.option("--min-p", type=float, default=0.0, show_default=True, help="Drop tokens below this share of the best.")
@click.option("--repetition-penalty", type=float, default=1.0, show_default=True, help="Above 1 avoids seen tokens.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same text, on every machine.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be repeated.")
@click.option("--logprobs", type=int, metavar="N", help="A line per token: id, log-probability, text; and the N best.")
@_shared.json_option
@_shared.threads_option
@_shared.kv_dtype_option
def command(prompt, location, ids, special, as_json, threads, kv_dtype, **options):
    """Continue PROMPT (- reads it from stdin, without its last line break). Statistics go to stderr.

    \b
    refmoe generate "Once upon a time"
    refmoe generate -m DIR --ids 1,403,407 --max-tokens 16 --json
    """
    _shared.one_prompt(prompt, ids, "PROMPT (- for stdin)")
    _shared.prepare(threads)
    from refmoe.generate import Options

    Options(**options)  # refused before the model is loaded
    text = None if prompt is None else _shared.read_prompt(prompt)
    model = _shared.open_model(location, threads, kv_dtype)
    generation = model.generate(_shared.prompt_ids(model, text, ids, special), **options)
    table = options["logprobs"] is not None
    tokens = []
    for step in generation:
        if table:
            tokens.append(_token(model, step))
        if not as_json:
            _shared.emit(_line(tokens[-1]) if table else step.text)
    if as_json:
        _shared.emit(json.dumps(_result(generation, tokens if table else None)) + "\n")
    elif not table:
        _shared.emit("\n")
    _statistics(generation)


def _token(model, step) -> dict:
    def entry(token, logprob):
        return {"id": token, "text": model.tokenizer.decode([token]) if model.tokenizer else "", "logprob": logprob}

    return entry(step.id, step.logprob) | {"top": [entry(*pair) for pair in step.top_logprobs]}


def _line(token: dict) -> str:
    def cell(entry):
        return f"{entry['id']} {entry['logprob']:.6f} {json.dumps(entry['text'], ensure_ascii=False)}"

    return "\t".join([cell(token), *map(cell, token["top"])]) + "\n"


def _result(generation, logprobs) -> dict:
    return {
        "ids": generation.ids,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "prompt_ids": generation.prompt_ids,
        "logprobs": logprobs,
        "timings": generation.timings,
        "digest": generation.digest,
    }


def _statistics(generation) -> None:
    if generation.nan_steps:
        _shared.note(f"warning: {generation.nan_steps} rows of logits held nan; such tokens are never chosen")
    t = generation.timings
    decode = f"{t['decode_tokens_per_s']:.1f} tok/s" if t["decode_tokens_per_s"] else "one token"
    memory = f", peak memory {t['peak_rss_bytes'] / 1e6:.0f} MB" if t["peak_rss_bytes"] else ""
    _shared.note(
        f"{t['prompt_tokens']} prompt tokens ({t['prefill_tokens_per_s']:.1f} tok/s), "
        f"{t['generated_tokens']} generated ({decode}), first token after {t['first_token_s']:.2f} s, "
        f"load {t['load_s']:.2f} s{memory}, {generation.finish_reason}, digest {generation.digest[:16]}"
    )
