"""What is known of libraries: one module for each area, found as rules are found.

A function is taught with one entry, `@function("torch.nn.Parameter")` over what it gives, a method with
`@method("zero_grad")`: see CONTRIBUTING.md.
"""
