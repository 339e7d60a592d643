"""Do convolutions learn the usual picture tasks?"""
