"""What may be said to a character and what she may say back: filters, policies, PII, speech level."""
