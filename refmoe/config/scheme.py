"""One encoding that a quantization_config states; what its readers share: fields, and reasons to ignore some."""

from typing import NamedTuple

from refmoe.config import Config

WHOLE = 0  # a block length, or a group size, that is the whole row or column
STORED = "the stored form of each tensor decides"
WEIGHTS_ONLY = "activations stay binary32: only the encoding of the weights is used"
CALIBRATION = "how the weights were found, not how they are stored"
KERNEL = "chooses an implementation, not what is stored"
MODULES = """quantization_status modules_to_not_convert modules_to_convert ignored_layers ignore exclude_modules
    lm_head block_name_to_quantize modules_in_block_to_quantize module_name_preceding_first_block true_sequential"""


class Scheme(NamedTuple):
    """One encoding: a module of refmoe.formats, the numbers it reads from the config, the field that says so, and
    suffixes of tensors that it may lack elsewhere but not here."""

    format: str
    params: dict[str, int]
    field: str
    needs: tuple[str, ...] = ()


IGNORED = {
    STORED: MODULES,
    WEIGHTS_ONLY: """input_activations output_activations activation act_bits act_data_type act_dynamic act_group_size
        act_sym""",
    "the cache keeps its own type": "kv_cache_scheme kv_cache_quant_algo kv_cache_quant_type",
    CALIBRATION: """damp_percent damp_auto_increment static_groups dataset tokenizer batch_size pad_token_id mse
        max_input_length model_seqlen cache_block_outputs act_group_aware quantizer observer observer_kwargs dynamic
        scale_dtype iters nsamples seqlen lr minmax_lr low_gpu_mem_usage enable_minmax_tuning enable_quanted_input
        enable_norm_bias_tuning enable_alg_ext gradient_accumulate_steps amp quant_block_list to_quant_block_names""",
    KERNEL: """exllama_config use_exllama disable_exllama use_cuda_fp16 backend do_fuse fuse_max_seq_len
        modules_to_fuse dequantize parallel_packing device pack_impl""",
    "names or describes the file": """model_name_or_path model_file_base_name producer meta version
        global_compression_ratio zp_dtype method autoround_version""",
}  # fmt: skip


def size(q: Config, key: str = "group_size") -> int:
    """A group size; -1, the whole row, as WHOLE."""
    value: int = q.integer(key, low=-1, reason="encoding of the matrices")
    if value == 0:
        raise q.error(key, "a positive integer, or -1 for a whole row")
    return WHOLE if value == -1 else value


def flag(q: Config, key: str, default: bool | None = None) -> int:
    """true or false as 1 or 0."""
    options = {} if default is None else {"default": default}
    return int(q.flag(key, reason="encoding of the matrices", **options))


def choice(q: Config, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
    """One of some words, whatever its case; the default only if the key is absent."""
    if not q.has(key) and default is not None:
        return default
    value = q.values.get(key)
    if not isinstance(value, str) or value.lower() not in choices:
        raise q.error(key, "one of " + ", ".join(choices))
    q.note(key, "used", "encoding of the matrices")
    return value.lower()


def block(q: Config, key: str) -> dict[str, int]:
    """Rows and columns of a block of weights that share a scale."""
    value = q.values.get(key)
    sizes = value if isinstance(value, list) and len(value) == 2 else []
    if not sizes or any(type(size) is not int or not 1 <= size <= 1 << 20 for size in sizes):
        raise q.error(key, "a list of two positive integers")
    q.note(key, "used", "encoding of the matrices")
    return {"block_rows": sizes[0], "block_cols": sizes[1]}


def reasons(*reasons: str) -> dict[str, str]:
    """{key: reason} of the keys ignored for one of these reasons."""
    return {key: reason for reason in reasons for key in IGNORED[reason].split()}
