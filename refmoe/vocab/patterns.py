"""How families cut text into pieces before joining bytes. The expressions are facts about published tokenizers."""

_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(upper: str, lower: str, symbols: str, before: str = "") -> str:
    """Words by case with their English suffix, numbers of up to three digits, runs of symbols, white space."""
    return (
        f"{before}{_FIRST}{upper}*{lower}+{_SUFFIX}?|{_FIRST}{upper}+{lower}*{_SUFFIX}?|"
        rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+{symbols}*|{_SPACES}"
    )


QWEN = rf"{_SUFFIX}|{_FIRST}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
O200K = _cased(f"[{_UPPER}]", f"[{_LOWER}]", r"[\r\n/]")
# Chinese characters are words of their own and never part of others; && is the intersection of classes
KIMI = _cased(rf"[{_UPPER}&&[^\p{{Han}}]]", rf"[{_LOWER}&&[^\p{{Han}}]]", r"[\r\n]", r"[\p{Han}]+|")
