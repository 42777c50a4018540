"""r1distill."""
