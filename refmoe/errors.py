"""Every error a user can cause. One line each: file, field, expected, found."""


class RefmoeError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line and exits 1."""


class CheckpointError(RefmoeError):
    """A weight file, its header, its index, or a tensor in it is not what the program needs."""


class ConfigError(RefmoeError):
    """A config key is missing, malformed, unknown, or asks for something that is not implemented."""


class FormatError(RefmoeError):
    """A weight format is unknown, incomplete, or does not fit the tensor it claims."""


class TokenizerError(RefmoeError):
    """The tokenizer file is missing or broken, or text cannot be encoded with it."""


class ProgramError(RefmoeError):
    """A step program is inconsistent: shapes, dtypes, names, or single assignment."""


class TraceError(RefmoeError):
    """A trace, vector or golden file is malformed or does not fit."""


class EndpointError(RefmoeError):
    """A server does not answer, or answers something else than was asked for."""


class UsageError(RefmoeError):
    """An argument is out of range; the command line exits 2."""
