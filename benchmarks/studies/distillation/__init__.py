"""What a radar network with few labels gains from an optical teacher on tiles without labels."""
