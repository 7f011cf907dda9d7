"""The sampler's clause again, in exact rational arithmetic: no NumPy arithmetic, nothing from refmoe."""

import math
from decimal import Context, Decimal
from fractions import Fraction

EXACT = Context(prec=80)


def rn32(value):
    """Nearest binary32 value (ties to even) of a Fraction, as a Fraction; overflow gives math.inf with its sign."""
    if value in (math.inf, -math.inf) or value == 0:
        return value
    size = abs(Fraction(value))
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / unit) * unit  # round() on a Fraction rounds half to even
    if rounded >= Fraction(2) ** 128:
        rounded = math.inf
    return rounded if value > 0 else -rounded


def exp32(x):
    """RN32(e^x) of a Fraction or -inf."""
    if x == -math.inf or x < -200:
        return Fraction(0)
    quotient = EXACT.divide(Decimal(x.numerator), Decimal(x.denominator)) if x else Decimal(0)
    return rn32(Fraction(EXACT.exp(quotient)))


def philox_uniform(seed, position):
    """Random123's Philox4x32-10 on plain integers: the top 24 bits of the first word, as a Fraction in [0, 1)."""
    key = [seed % 2**32, seed // 2**32]
    counter = [position % 2**32, position // 2**32, 0, 0]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b // 2**32 ^ counter[1] ^ key[0], b % 2**32, a // 2**32 ^ counter[3] ^ key[1], a % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return Fraction(counter[0] >> 8, 1 << 24)


def exact(x):
    """A float as Fraction; inf and nan stay."""
    return Fraction(x) if math.isfinite(x) else x


def survivors(logits, seen, temperature, top_k, top_p, min_p, repetition_penalty):
    """[(id, e_r, c_r)] of the ranks that are left, temperature > 0."""
    penalty, temperature, top_p, min_p = (rn32(Fraction(v)) for v in (repetition_penalty, temperature, top_p, min_p))
    values = []
    for i, logit in enumerate(logits):
        x = exact(float(logit))
        if x != x:
            continue
        if i in seen and penalty != 1 and isinstance(x, Fraction):
            x = rn32(x / penalty) if x > 0 else rn32(x * penalty)
        values.append((x, i))
    values.sort(key=lambda pair: (-pair[0], pair[1]))
    if top_k:
        values = values[:top_k]
    rows, total = [], Fraction(0)
    for x, i in values:
        e = exp32(rn32(rn32(x - values[0][0]) / temperature)) if isinstance(x, Fraction) else Fraction(0)
        total = rn32(total + e)
        rows.append((i, e, total))
    cut = next(n for n, row in enumerate(rows) if row[2] >= rn32(top_p * total))
    return [row for row in rows[: cut + 1] if row[1] >= min_p]


def choose(logits, seen, position, temperature, top_k, top_p, min_p, repetition_penalty, seed):
    """The id for temperature > 0."""
    rows = survivors(logits, seen, temperature, top_k, top_p, min_p, repetition_penalty)
    threshold = rn32(philox_uniform(seed, position) * rows[-1][2])
    return next(i for i, _, c in rows if c > threshold)


def log_probability(logits, token):
    """logit - max - ln(sum in sixteen lanes) as the nearest binary64 number; finite logits only."""
    values = [exact(float(v)) for v in logits]
    largest = max(values)
    lanes = [Fraction(0)] * 16
    for i, v in enumerate(values):
        lanes[i % 16] = rn32(lanes[i % 16] + exp32(rn32(v - largest)))
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [rn32(a + b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    difference = values[token] - largest
    decimal = EXACT.divide(Decimal(difference.numerator), Decimal(difference.denominator))
    total = EXACT.divide(Decimal(lanes[0].numerator), Decimal(lanes[0].denominator))
    return float(EXACT.subtract(decimal, EXACT.ln(total)))
