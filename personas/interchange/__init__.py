"""Character Card V2 and V3: JSON, PNG and CHARX files of other programs to our cards and back."""
