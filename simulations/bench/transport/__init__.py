"""`presspool bench transport`: rounds of nothing but bytes, ours beside stock Flower's."""
