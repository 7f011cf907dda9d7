"""endpoint - does a server compute this checkpoint at the precision it declares? `refmoe verify endpoint URL -m DIR`.

    report = endpoint.score("http://localhost:8000", model, profile="bf16")
    report.code      0 it does, 1 it does not, 3 not everything could be asked, 4 too close to tell

An OpenAI-compatible server (vLLM, SGLang, llama-server, ...) is asked for two things: how many tokens it counts in
texts, ids and conversations (a prompt that is one token longer is another prompt), and the log-probabilities that it
gives to tokens that we choose, position by position (teacher forcing). Both are compared with the reference.

How far log-probabilities may be apart is measured, not guessed: the reference itself is run again with results and
operands of products rounded at random to the declared types. A server of that precision differs from the reference
about as much as these runs do. `ratio` compares them position by position; its median is at most NEAR for a server that
conforms. A position is odd if it is FAR times further apart than rounding, and twice as far as any run in which experts
were chosen the other way where choices are close. More than MANY of all positions odd: the server does not conform.
Fewer, a larger median, or another best token than those runs explain (the reference's gap between both is more than
four times what they change): too close to tell.
"""

from refmoe.endpoint.report import FAR, MANY, NEAR, Report
from refmoe.endpoint.score import score

__all__ = ["FAR", "MANY", "NEAR", "Report", "score"]
