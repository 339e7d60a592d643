"""What wrong values lead to: are they refused, and does the message help?"""
