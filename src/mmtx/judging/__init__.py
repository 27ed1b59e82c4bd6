"""What a judge that is none of the model's own finds in the pictures that it draws."""
