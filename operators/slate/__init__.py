"""From scored candidates to a slate: rules, diversity, exploration, reasons, the answer."""
