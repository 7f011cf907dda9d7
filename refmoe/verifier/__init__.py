"""verifier - is a port right, and if not, which op is wrong and which known bug does it look like?

    from refmoe import verifier

    verdict = verifier.judge("rms_norm", {"x": x, "w": w}, {"eps": 1e-6}, {"y": theirs}, expected={"y": ours},
                             profile="bf16", case="layers.3.attn_norm", names=("attn_norm",))
    verdict.status                     EXACT, WITHIN, WRONG or MISSING
    verdict.outputs[0].worst           index, expected, found, ulp, error, budget
    verdict.diagnosis                  suspects: id, title, detail
    verdict.facts()                    plain JSON values

    report = verifier.check("v/", "mine/", profile="port.toml")      a folder of vectors against a folder of results
    verifier.profile("bf16")                                         what a port declares about its arithmetic

How a verdict is reached: `profiles` states what a port may do, `balls` turns that into an interval for each element,
`bounds` holds the formula of each op, `routing` compares expert ids, `judge` decides, `signatures` describes what is
wrong, `diagnose` tries the `mutations` of the `catalogue`. `check` and `vectors` do it for folders, `foreign` reads
what ports write.
"""

from refmoe.verifier.check import Report, check
from refmoe.verifier.judge import judge
from refmoe.verifier.profiles import PROFILES, Profile
from refmoe.verifier.profiles import load as profile
from refmoe.verifier.question import Question
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG, Output, Place, Suspect, Verdict

__all__ = ["EXACT", "MISSING", "PROFILES", "WITHIN", "WRONG", "Output", "Place", "Profile", "Question", "Report",
           "Suspect", "Verdict", "check", "judge", "profile"]  # fmt: skip
