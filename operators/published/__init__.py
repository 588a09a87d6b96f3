"""What is published beside slates, of items and for whoever comes: lists of items, and which of them are gone."""
