"""The kernels of processors with AVX-512 and VNNI on one that lacks them: python -m tests.emulated FORMAT ...

Prints the digest of tests.products. The choices that numerics make by the processor's features are made as there, and
the one instruction of VNNI is written out; LLVM does the rest with the registers that are there. Compiled code must not
go to the usual cache: give REFMOE_CACHE_DIR.
"""

import sys

from llvmlite import ir

from refmoe.numerics import vec_bytes, vec_dots


def quads(builder, sums, weights, codes):
    """vec_dots.quads: four products of unsigned and signed bytes, added to 32-bit sums."""
    wide = ir.VectorType(ir.IntType(32), 64)
    products = builder.mul(builder.zext(weights, wide), builder.sext(codes, wide))
    return builder.add(sums, vec_dots.neighbours(builder, vec_dots.neighbours(builder, products)))


vec_bytes.WIDE = True
vec_dots.VNNI, vec_dots.PAIRS, vec_dots._PART, vec_dots.quads = True, False, vec_dots.ints16, quads

if __name__ == "__main__":
    from tests import products  # kernels are imported here, after the choices are made

    print(products.digest(sys.argv[1:]))
