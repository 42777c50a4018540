"""How a student learns: the only home of torch, transformers, trl and peft (besides export)."""
