"""Does it pay to join? Each outlet alone, beside the run of all of them."""
