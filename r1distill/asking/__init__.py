"""What the asking engine (`ask.py`) is made of: slots owed, the desk, the lane to a teacher, patience, money, counting."""
