"""llamacpp - record a forward pass of llama.cpp by its evaluation callback; needs llama-cpp-python 0.3.

    from refmoe.capture import llamacpp
    llamacpp.record("model.gguf", [1, 2, 3], "theirs.safetensors")

    refmoe compare theirs.safetensors -m model.gguf --map llama.cpp --profile ...

Tensors keep the names of the graph (ffn_norm-0, ffn_moe_topk-1, ...). Where several have the same name the last one
counts; rotated ones have .rope behind the name. `kv`: type of the cache, "f16" (what llama.cpp does if nothing is
said), "bf16" or "f32"; it is part of the arithmetic that is to be declared. Flash attention is off, so that the parts
of attention are there. Runs on the CPU, one thread.
"""

import ctypes
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import checkpoint
from refmoe.errors import TraceError, UsageError

KV = {"f32": 0, "f16": 1, "bf16": 30}
STORED = {0: ("F32", np.float32), 1: ("F16", np.uint16), 26: ("I32", np.int32), 30: ("BF16", np.uint16)}
MOST = 1 << 34  # bytes of one recording


class _Head(ctypes.Structure):
    """The first fields of a ggml_tensor."""

    _fields_ = [("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4),
                ("nb", ctypes.c_size_t * 4)]  # fmt: skip


class _Recorder:
    """Keeps what the callback shows. `wanted` are beginnings of names."""

    def __init__(self, library: Any, wanted: Sequence[str]):
        self.wanted, self.found, self.problem = tuple(wanted), dict[str, Any](), ""
        self.name, self.operation, self.size = library.ggml_get_name, library.ggml_op_desc, library.ggml_nbytes
        self.get = library.ggml_backend_tensor_get
        self.name.restype = self.operation.restype = ctypes.c_char_p
        self.size.restype = ctypes.c_size_t
        for function in (self.name, self.operation, self.size):
            function.argtypes = [ctypes.c_void_p]
        self.get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self.total = 0

    def __call__(self, tensor: int, ask: bool, _: Any) -> bool:
        try:
            name = self.name(tensor).decode("utf-8", "replace")
            if not name or "(" in name or not name.startswith(self.wanted):  # (view), (reshaped), ...: the same numbers
                return not ask
            if not ask:
                self.keep(name + (".rope" if self.operation(tensor) == b"ROPE" else ""), tensor)
        except Exception as problem:  # an exception cannot pass through the library
            self.problem = str(problem)
        return True

    def keep(self, name: str, tensor: int) -> None:
        """Copy one tensor, slowest axis first."""
        head = _Head.from_address(tensor)
        if head.type not in STORED:
            return
        dtype, kind = STORED[head.type]
        raw = np.empty(self.size(tensor), np.uint8)
        self.total += raw.nbytes
        if self.total > MOST:
            raise TraceError(f"recording: expected at most {MOST >> 30} GB, found more; name fewer points")
        self.get(tensor, raw.ctypes.data, 0, raw.nbytes)
        shape, steps = tuple(head.ne)[::-1], tuple(head.nb)[::-1]
        strided = np.lib.stride_tricks.as_strided(raw.view(kind), shape, steps)
        while strided.ndim > 2 and strided.shape[0] == 1:
            strided = strided[0]
        self.found[name] = (dtype, strided.shape, np.ascontiguousarray(strided))


def record(model: str | Path, ids: Sequence[int], path: str | Path, points: Sequence[str] = ("",),
           kv: str = "f16") -> list[str]:  # fmt: skip
    """Run a GGUF file on one prompt and write what its graph computes; returns the names.

    points: keep only names that begin with one of these. UsageError for what llama.cpp does not load.
    """
    if kv not in KV:
        raise UsageError(f"kv: expected one of {', '.join(KV)}, found {kv!r}")
    import llama_cpp.llama_cpp as api

    folder = Path(api.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(file for file in folder.iterdir() if "ggml-base" in file.name)))
    recorder = _Recorder(library, points)
    callback = api.ggml_backend_sched_eval_callback(recorder)
    api.llama_backend_init()
    settings = api.llama_model_default_params()
    settings.n_gpu_layers = 0
    loaded = api.llama_model_load_from_file(str(model).encode(), settings)
    if not loaded:
        raise UsageError(f"{model}: expected a GGUF file that llama.cpp loads, found one that it refuses")
    rows = _run(api, loaded, list(ids), callback, kv)
    if recorder.problem:
        raise TraceError(f"{model}: {recorder.problem}")
    if any("logits".startswith(point) or "result_output".startswith(point) for point in points):
        recorder.found["result_output"] = ("F32", rows.shape, rows)
    metadata = {"ids": json.dumps([int(token) for token in ids]), "captured": "llama.cpp", "kv_dtype": json.dumps(kv)}
    checkpoint.write(Path(path), recorder.found, metadata)
    return list(recorder.found)


def _run(api: Any, model: Any, ids: list[int], callback: Any, kv: str) -> np.ndarray:
    """Logits of all positions; everything that was made is freed."""
    settings = api.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = max(len(ids), 32)
    settings.n_threads = settings.n_threads_batch = 1
    settings.flash_attn_type, settings.type_k, settings.type_v = 0, KV[kv], KV[kv]
    settings.cb_eval = callback
    context = api.llama_init_from_model(model, settings)
    try:
        if not context:
            raise UsageError(f"kv: llama.cpp makes no context for {len(ids)} tokens with a cache in {kv}")
        batch = api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for n, token in enumerate(ids):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0], batch.logits[n] = token, n, 1, 0, 1
        status = api.llama_decode(context, batch)
        api.llama_batch_free(batch)
        if status:
            raise UsageError(f"ids: llama.cpp does not run them (status {status})")
        size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        rows = [np.ctypeslib.as_array(api.llama_get_logits_ith(context, n), shape=(size,)) for n in range(len(ids))]
        return np.stack(rows)
    finally:
        if context:
            api.llama_free(context)
        api.llama_model_free(model)
