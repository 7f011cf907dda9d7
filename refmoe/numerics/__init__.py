"""Floor 0: number formats, elementary functions, the one reduction, SIMD vectors, the counter-based generator."""
