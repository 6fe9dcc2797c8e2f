"""What frozen features give before anything is trained: linear probes in closed form, and labels that they doubt."""
