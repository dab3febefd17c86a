"""AuxK: reconstruct from the k largest of a few listed latents, with every gradient.

    z[i, f] = ⟨x[i], W_enc[f]⟩ + b_enc[f]           for f in the list (the dead latents)
    out[i]  = Σ over the k largest z[i, f], where positive, of z[i, f] · W_dec[f]

The op is made of others: `topk_rows` over the listed columns chooses without a gradient, then
`gathered_dots` takes the chosen activations and `sparse_decode` decodes them, so that the gradients
of both matrices are `row_scatter_add` over the chosen entries. That the encoder gets its gradient
matters: it is what revives a latent. The op itself is in `saetools_kernels.gradients`.
"""
