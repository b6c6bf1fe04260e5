"""Do the weights give away whose photos they were trained on?"""
