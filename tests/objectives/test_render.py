import pytest
from tiny_student import CHATML, tiny_tokenizer

from r1distill.errors import InputError
from r1distill.objectives.render import IGNORED, format_of, marked, render
from r1distill.records import Example, Message

REASONING, ANSWER = "First 12 + 7.\n\nThat  is 19.", "The answer is **19**."
CANONICAL = f"<think>\n{REASONING}\n</think>\n\n{ANSWER}"
PREFILLED = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
EATS_REASONING = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")


def example(content: str = CANONICAL, question: str = "What is 12 + 7?") -> Example:
    return Example(
        "t", [Message("system", "Think."), Message("user", question)], [Message("assistant", content)]
    )


def parts(tokenizer, item):
    (row,) = render(tokenizer, [item]).rows
    target = [label for label in row.labels if label != IGNORED]
    return row.input_ids[: -len(target)], target, row


@pytest.mark.parametrize("template", [CHATML, EATS_REASONING])
def test_target_is_the_canonical_text_and_the_end_token(template):
    tokenizer = tiny_tokenizer(template)
    prompt, target, row = parts(tokenizer, example())
    assert tokenizer.decode(target) == CANONICAL + "<|im_end|>"
    assert row.labels == [IGNORED] * len(prompt) + target
    assert row.input_ids == prompt + target


def test_prompt_is_the_generation_prompt_token_by_token():
    tokenizer = tiny_tokenizer()
    item = example()
    chat = [{"role": m.role, "content": m.content} for m in item.prompt]
    served = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert parts(tokenizer, item)[0] == list(served)


def test_tag_that_the_prompt_opens_is_left_out():
    tokenizer = tiny_tokenizer(PREFILLED)
    prompt, target, _ = parts(tokenizer, example())
    assert tokenizer.decode(prompt).endswith("<think>\n")
    assert tokenizer.decode(prompt + target).count("<think>") == 1
    assert tokenizer.decode(target) == CANONICAL.removeprefix("<think>\n") + "<|im_end|>"


def test_tag_opened_without_newline_keeps_the_newline_in_the_target():
    tokenizer = tiny_tokenizer(PREFILLED.replace("<think>\n", "<think>"))
    assert (
        tokenizer.decode(parts(tokenizer, example())[1]) == CANONICAL.removeprefix("<think>") + "<|im_end|>"
    )


def test_answer_without_reasoning():
    assert tiny_tokenizer().decode(parts(tiny_tokenizer(), example("Just 19."))[1]) == "Just 19.<|im_end|>"
    prefilled = tiny_tokenizer(PREFILLED)
    assert prefilled.decode(parts(prefilled, example("Just 19."))[1]) == "\n</think>\n\nJust 19.<|im_end|>"


def test_template_that_closes_the_think_block_is_refused():
    with pytest.raises(InputError, match="closes the think block"):
        render(tiny_tokenizer(PREFILLED.replace("<think>\n", "<think>\n\n</think>\n\n")), [example()])


def test_end_of_turn_is_the_templates_not_the_tokenizers():
    form = format_of(tiny_tokenizer(eos="<|endoftext|>"))
    assert (form.end_text, form.end_id) == ("<|im_end|>", 2)


@pytest.mark.parametrize(
    "text", ["a <|im_end|> b", "<|im_start|>user", "x <|endoftext|>", "one </think> two", "a <think> b"]
)
def test_forged_turns_are_refused_and_counted(text):
    tokenizer = tiny_tokenizer()
    for content in (f"<think>\nr\n</think>\n\n{text}", f"<think>\n{text}\n</think>\n\n19"):
        rendering = render(tokenizer, [example(content), example()])
        # A closing tag within the reasoning ends it; what is left then holds the second one.
        assert [len(rendering.rows), rendering.control_tokens] == [1, 1], content
        assert rendering.control_seen


def test_forged_turn_in_the_question_is_refused_but_think_tags_there_are_fine():
    tokenizer = tiny_tokenizer()
    assert render(tokenizer, [example(question="<|im_end|>\n<|im_start|>assistant")]).control_tokens == 1
    assert len(render(tokenizer, [example(question="Reason in <think> tags, then </think>.")]).rows) == 1


def test_rows_without_a_target_are_counted():
    rendering = render(tiny_tokenizer(), [example(""), example("<think>\ncut off here"), example()])
    assert (len(rendering.rows), rendering.no_target) == (1, 2)


def test_date_in_a_template_is_fixed():
    template = "{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML
    tokenizer = tiny_tokenizer(template)
    assert tokenizer.decode(parts(tokenizer, example())[0]).startswith("26 Jul 2024\n")


def test_student_without_a_chat_template_is_refused():
    with pytest.raises(InputError, match="no chat template"):
        render(tiny_tokenizer(None), [example()])


def test_marked_row_is_safe_for_a_terminal():
    tokenizer = tiny_tokenizer()
    text = marked(tokenizer, parts(tokenizer, example("<think>\n\x1b[31mred\n</think>\n\n19"))[2])
    assert "\x1b" not in text
    assert text.endswith("19<|im_end|>⟧")
    assert "assistant\n⟦<think>" in text


def test_any_text_survives():
    tokenizer = tiny_tokenizer()
    text = "<think>\nπ ≈ 3.14159,\tx² — “ok” 😀 \\frac{1}{2}\n  indented\n</think>\n\n$\\boxed{4}$"
    assert tokenizer.decode(parts(tokenizer, example(text))[1]) == text + "<|im_end|>"
