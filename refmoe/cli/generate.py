"""refmoe generate"""

import json

import click

from refmoe.cli import _options, _shared


@click.command("generate")
@click.argument("prompt", required=False)
@_shared.model_option
@_shared.ids_option
@click.option("--special", is_flag=True, help="Recognise special tokens written in the prompt.  [default: plain text]")
@_options.sampling
@click.option("--logprobs", type=int, metavar="N", help="A line per token: id, log-probability, text; and the N best.")
@click.option("--chat/--raw", default=None, help="Answer PROMPT through the chat template, or continue it as it is.  "
                                                "[default: raw, unless an option of a chat is given]")
@_options.chatting
@_shared.json_option
@_shared.threads_option
@_shared.kv_dtype_option
@_shared.activations_option
@click.pass_context
def command(context, prompt, location, ids, special, chat, system, thinking, tools_file, variables, as_json, threads,
            kv_dtype, activations, **options):  # fmt: skip
    """Continue PROMPT, or answer it (- reads it from stdin, without its last line break). Statistics go to stderr, and
    so does what a chat model thinks before it answers.

    \b
    refmoe generate "Once upon a time"
    refmoe generate -m DIR --chat "Why is the sky blue?" --no-think
    refmoe generate -m DIR --ids 1,403,407 --max-tokens 16 --json
    """
    _shared.one_prompt(prompt, ids, "PROMPT (- for stdin)")
    wanted = system is not None or thinking is not None or tools_file is not None or bool(variables)
    if chat is False and wanted:
        raise click.UsageError("--system, --think, --tools and --variable belong to --chat, not to --raw", context)
    chat = chat or wanted
    if chat and (ids is not None or special):
        raise click.UsageError("--ids and --special belong to raw text, not to a chat", context)
    _shared.prepare(threads)
    from refmoe.generate import Options

    most = options.pop("max_tokens")
    options["max_tokens"] = most if most is not None else 4096 if chat else 128
    Options(**{name: value for name, value in options.items() if name != "sampling"})  # refused before loading
    text = None if prompt is None else _shared.read_prompt(prompt)
    tools = _options.read_tools(tools_file)
    if chat:
        _options.need_template(location)
    model = _shared.open_model(location, threads, kv_dtype, activations)
    options = _options.chosen(context, model, options)
    if chat:
        messages = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": text}]
        with _shared.quiet_panics():
            generation = model.chat(messages, tools, thinking, variables, **options)
    else:
        messages = None
        generation = model.generate(_shared.prompt_ids(model, text, ids, special), **options)
    table, screen = options["logprobs"] is not None, _options.Screen()
    tokens = []
    for step in generation:
        if table:
            tokens.append(_token(model, step))
        if table and not as_json:
            _shared.emit(_line(tokens[-1]))
        elif not as_json:
            screen.show(step)
    if as_json:
        _shared.emit(json.dumps(_result(generation, tokens if table else None, messages)) + "\n")
    elif not table:
        screen.close(generation)
    _statistics(generation)


def _token(model, step) -> dict:
    def entry(token, logprob):
        return {"id": token, "text": model.tokenizer.decode([token]) if model.tokenizer else "", "logprob": logprob}

    return entry(step.id, step.logprob) | {"top": [entry(*pair) for pair in step.top_logprobs]}


def _line(token: dict) -> str:
    def cell(entry):
        return f"{entry['id']} {entry['logprob']:.6f} {json.dumps(entry['text'], ensure_ascii=False)}"

    return "\t".join([cell(token), *map(cell, token["top"])]) + "\n"


def _result(generation, logprobs, messages) -> dict:
    more = {} if messages is None else {
        "thinking": generation.thinking,
        "tool_calls": generation.tool_calls,
        "messages": [*messages, generation.message],
    }  # fmt: skip
    return {
        "ids": generation.ids,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "prompt_ids": generation.prompt_ids,
        "logprobs": logprobs,
        "timings": generation.timings,
        "digest": generation.digest,
    } | more


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
