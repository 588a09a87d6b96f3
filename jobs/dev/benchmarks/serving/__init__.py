"""What slates cost by HTTP: `riverrank serve` under load, beside what Redis alone and a server without logic give."""
