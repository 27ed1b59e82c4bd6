"""What a judge that is none of the model's own finds in the pictures and sounds that it makes."""
