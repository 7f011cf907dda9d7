"""Jobs of one token: the calls from the embedding to the logits, made one after the other by compiled code.

A pass over a single new token makes the same calls on buffers of the same sizes every time. `refmoe.decode_plan` lays
the buffers out once and writes the calls as rows of four int64: a work item's function, the address of its block of
int64 operands, the number of items, and of shares (kernels.team). `run` makes them without any Python between. Items
here call the kernels of the ops, so the bits are theirs. Operands are addresses unless marked #, a number; f32 scalars
are given by address.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.attention import _attention
from refmoe.kernels.elementwise import norm_rows
from refmoe.kernels.latent import _latent
from refmoe.kernels.matmul import walk_rows
from refmoe.kvcache import CHUNK, _store_bf16, _store_f32
from refmoe.numerics.vec import load1, view16, view32, view64
from refmoe.ops.add import add
from refmoe.ops.clip import clip
from refmoe.ops.combine import combine
from refmoe.ops.expert_linear_bias import add_biases
from refmoe.ops.latent_attention import joined
from refmoe.ops.linear_bias import add_bias
from refmoe.ops.rope_half import rope_half
from refmoe.ops.rope_half_partial import rope_half_partial
from refmoe.ops.rope_pairs import rope_pairs
from refmoe.ops.route_sigmoid_groups import route_sigmoid_groups
from refmoe.ops.route_sigmoid_groups_renorm import route_sigmoid_groups_renorm
from refmoe.ops.route_softmax_groups import route_softmax_groups
from refmoe.ops.route_softmax_topk import route_softmax_topk
from refmoe.ops.route_softmax_topk_renorm import route_softmax_topk_renorm
from refmoe.ops.route_topk_softmax import route_topk_softmax
from refmoe.ops.scale_by_sigmoid import scale_by_sigmoid
from refmoe.ops.split_heads import split_heads

WORDS = 24  # operands of a block


@kernel
def _row(where, count):
    """f32[1,count] at an address."""
    return view32(where, count).reshape(1, count)


@item_kernel
def embed(block, item, slot):
    """descriptor, out, token id (address of an int64)."""
    b = view64(block, WORDS)
    walk_rows(view64(b[0], 16), view64(b[2], 1)[0], 1, np.int64(0), b[1])


@item_kernel
def norm(block, item, slot):
    """x, weights, out, #rows, #size, eps."""
    b = view64(block, WORDS)
    norm_rows(view32(b[0], b[3] * b[4]), view32(b[1], b[4]), load1(b[5]), view32(b[2], b[3] * b[4]))


@item_kernel
def plus(block, item, slot):
    """a, b, out, #size."""
    b = view64(block, WORDS)
    add(_row(b[0], b[3]), _row(b[1], b[3]), _row(b[2], b[3]))


@item_kernel
def bias(block, item, slot):
    """y, b, #size."""
    b = view64(block, WORDS)
    add_bias(_row(b[0], b[2]), view32(b[1], b[2]))


@item_kernel
def biases(block, item, slot):
    """y, ids, biases of all experts, #choices, #size, #experts."""
    b = view64(block, WORDS)
    add_biases(view32(b[0], b[3] * b[4]).reshape(1, b[3], b[4]), view64(b[1], b[3]).reshape(1, b[3]),
               view32(b[2], b[5] * b[4]).reshape(b[5], b[4]))


@item_kernel
def limited(block, item, slot):
    """x, out, #size, limit: the op clip."""
    b = view64(block, WORDS)
    clip(_row(b[0], b[2]), load1(b[3]), _row(b[1], b[2]))


@item_kernel
def split(block, item, slot):
    """x, a, b, #heads, #left, #right."""
    b = view64(block, WORDS)
    heads, left, right = b[3], b[4], b[5]
    split_heads(view32(b[0], heads * (left + right)).reshape(1, heads, left + right),
                view32(b[1], heads * left).reshape(1, heads, left),
                view32(b[2], heads * right).reshape(1, heads, right))


@item_kernel
def turn_pairs(block, item, slot):
    """x, out, #size, inv_freq, #pairs, amplitude, position."""
    b = view64(block, WORDS)
    rope_pairs(_row(b[0], b[2]), view64(b[6], 1), view32(b[3], b[4]), load1(b[5]), _row(b[1], b[2]))


@item_kernel
def turn_halves(block, item, slot):
    """As turn_pairs."""
    b = view64(block, WORDS)
    rope_half(_row(b[0], b[2]), view64(b[6], 1), view32(b[3], b[4]), load1(b[5]), _row(b[1], b[2]))


@item_kernel
def turn_parts(block, item, slot):
    """As turn_pairs, then #head width: the op rope_half_partial."""
    b = view64(block, WORDS)
    rope_half_partial(_row(b[0], b[2]), view64(b[6], 1), view32(b[3], b[4]), load1(b[5]), b[7], _row(b[1], b[2]))


@item_kernel
def pick(block, item, slot):
    """ids, #choices, #kinds, #experts, descriptors of all experts, those of the chosen."""
    b = view64(block, WORDS)
    ids, words = view64(b[0], b[1]), 16
    for m in range(b[2]):
        for j in range(b[1]):
            source = view64(b[4] + (m * b[3] + ids[j]) * words * 8, words)
            view64(b[5] + (m * b[1] + j) * words * 8, words)[:] = source


@item_kernel
def weigh(block, item, slot):
    """x, weights, out, #choices, #size: the op combine."""
    b = view64(block, WORDS)
    combine(view32(b[0], b[3] * b[4]).reshape(1, b[3], b[4]), _row(b[1], b[3]), _row(b[2], b[4]))


@item_kernel
def scale(block, item, slot):
    """x, g, out, #size: the op scale_by_sigmoid."""
    b = view64(block, WORDS)
    scale_by_sigmoid(_row(b[0], b[3]), _row(b[1], 1), _row(b[2], b[3]))


@inlined
def _routed(b):
    """logits, #experts, ids, weights, #choices, ... -> logits, ids, weights as rows."""
    return _row(b[0], b[1]), view64(b[2], b[4]).reshape(1, b[4]), _row(b[3], b[4])


@item_kernel
def sigmoid_groups(block, item, slot):
    """As _routed, then bias, #open groups, factor, scores, #groups."""
    b = view64(block, WORDS)
    logits, ids, weights = _routed(b)
    route_sigmoid_groups(logits, view32(b[5], b[1]), b[6], load1(b[7]), view32(b[8], b[9]), ids, weights)


@item_kernel
def sigmoid_groups_renorm(block, item, slot):
    """As sigmoid_groups."""
    b = view64(block, WORDS)
    logits, ids, weights = _routed(b)
    route_sigmoid_groups_renorm(logits, view32(b[5], b[1]), b[6], load1(b[7]), view32(b[8], b[9]), ids, weights)


@item_kernel
def softmax_groups(block, item, slot):
    """As sigmoid_groups, without a bias."""
    b = view64(block, WORDS)
    logits, ids, weights = _routed(b)
    route_softmax_groups(logits, b[6], load1(b[7]), view32(b[8], b[9]), ids, weights)


@item_kernel
def softmax_topk(block, item, slot):
    """As _routed."""
    b = view64(block, WORDS)
    route_softmax_topk(*_routed(b))


@item_kernel
def softmax_topk_renorm(block, item, slot):
    """As _routed."""
    b = view64(block, WORDS)
    route_softmax_topk_renorm(*_routed(b))


@item_kernel
def topk_softmax(block, item, slot):
    """As _routed."""
    b = view64(block, WORDS)
    route_topk_softmax(*_routed(b))


@kernel
def _f32(where, count):
    return view32(where, count)


@kernel
def _u16(where, count):
    return view16(where, count)


@inlined
def _places(b, view):
    """What a cache store takes: a, b, #heads, #width of a, #of b, tables of both, #padded width of a, #of b, #column
    where b begins, position; `view` of the stored element."""
    heads, position = b[2], view64(b[10], 1)[0]
    chunk, first, second = position // CHUNK, heads * CHUNK * b[7], heads * CHUNK * b[8]
    return (_row(b[0], heads * b[3]), _row(b[1], heads * b[4]),
            view(view64(b[5], chunk + 1)[chunk], first).reshape(heads, CHUNK, b[7]),
            view(view64(b[6], chunk + 1)[chunk], second).reshape(heads, CHUNK, b[8]), position % CHUNK, b[9])


@item_kernel
def store_f32(block, item, slot):
    """As _places."""
    _store_f32(*_places(view64(block, WORDS), _f32))


@item_kernel
def store_bf16(block, item, slot):
    """As _places."""
    _store_bf16(*_places(view64(block, WORDS), _u16))


@item_kernel
def attend(block, item, slot):
    """As _places, then at 11: #query heads, out, scale, #least work to share, #shares, control of the team, #its size,
    #work item, q, #window, sinks, #of them (heads or 0). Attention over what is stored."""
    b = view64(block, WORDS)
    position, heads, size = view64(b[10], 1)[0], b[11], b[3]
    q, chunks = _row(b[19], heads * size), position // CHUNK + 1
    shares = 1 if q.size * (position + 1) < b[14] else b[15]
    _attention(view64(b[16], b[17]), b[18], q, view64(b[5], chunks), view64(b[6], chunks), position, heads, b[2], size,
               load1(b[13]), b[20], view32(b[21], b[22]), _row(b[12], heads * size), shares)


@item_kernel
def attend_latents(block, item, slot):
    """As attend up to 17, then: address of four #work items, q, its rotated part."""
    b = view64(block, WORDS)
    position, heads, rank, rotated = view64(b[10], 1)[0], b[11], b[3], b[4]
    a = joined(view32(b[19], heads * rank).reshape(1, heads, rank),
               view32(b[20], heads * rotated).reshape(1, heads, rotated))
    shares, items = 1 if a.size * (position + 1) < b[14] else b[15], view64(b[18], 4)
    _latent(view64(b[16], b[17]), items, a, view64(b[5], position // CHUNK + 1), position, rank, load1(b[13]),
            _row(b[12], heads * rank), shares)


@kernel
def run(control, jobs):
    """All jobs i64[n,4], in order."""
    for i in range(jobs.shape[0]):
        team.run_at(control, jobs[i, 0], jobs[i, 1], jobs[i, 2], jobs[i, 3])
