"""endpoint - does a server compute this checkpoint at the precision it declares? `refmoe verify endpoint URL -m DIR`.

    report = endpoint.score("http://localhost:8000", model, profile="bf16")
    report.code      0 it does, 1 it does not, 3 not everything could be asked, 4 too close to tell

An OpenAI-compatible server (vLLM, SGLang, llama-server, ...) is asked for two things: how many tokens it counts in
texts, ids and conversations (a prompt that is one token longer is another prompt), and the log-probabilities that it
gives to tokens that we choose, position by position (teacher forcing). Both are compared with the reference.

How far log-probabilities may be apart is measured, not guessed: the reference itself is run again with every result
rounded to the declared type, `RUNS` times with random rounding. A server of that precision differs from the reference
about as much as these runs do. `ratio` is the root mean square of its differences over that of the runs: up to NEAR it
conforms, from FAR on it does not, between them nothing is told. Another best token is excused if the reference's gap
between both is at most four times the largest difference of the runs at that position.
"""

from refmoe.endpoint.report import FAR, NEAR, Report
from refmoe.endpoint.score import score

__all__ = ["FAR", "NEAR", "Report", "score"]
